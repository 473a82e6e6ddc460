"""How the shipped model was made: clip generator, questions, tokenizer, training, evaluation and export."""
