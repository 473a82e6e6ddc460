"""Questions that the model has to refuse: of unknown kinds, about unknown things, small talk and nonsense.

In every list the last entries, a quarter of it, are held out of training.
"""

from __future__ import annotations

import random
import string
from functools import cache

from demo_model.vocabulary import COLOURS, SHAPES
from demo_model.wordings import wordings_of

LISTS = {
    "person": (
        *("man", "woman", "person", "child", "girl", "teacher", "doctor", "player", "singer", "driver", "baby", "cook"),
        *("president", "actor", "friend", "boy", "nurse", "farmer", "dancer"),
    ),
    "animal": (
        *("dog", "bird", "elephant", "fish", "cow", "lion", "mouse", "rabbit", "monkey", "duck"),
        *("cat", "horse", "tiger"),
    ),
    "object": (
        *("car", "house", "tree", "ball", "phone", "bottle", "door", "hat", "bus", "train", "bicycle", "boat", "lamp"),
        *("cup", "book", "flower", "shirt", "bag", "guitar", "window", "pizza", "rectangle", "hexagon", "arrow"),
        *("cube", "moon", "sun", "face", "hand", "logo", "spoon", "cloud", "banana", "wheel"),
        *("truck", "chair", "apple", "plane", "building", "shoe", "pentagon", "oval", "computer", "key"),
    ),
    "colour": ("brown", "black", "gray", "golden", "silver", "beige"),
    "action": (
        *("run", "jump", "sing", "eat", "sleep", "dance", "cook", "swim", "laugh", "fight", "drive", "talk", "cry"),
        *("walk", "drink", "smile", "climb"),
    ),
    "doing": ("running", "singing", "cooking", "sleeping", "playing", "driving", "talking", "eating", "walking"),
    "place": (
        *("Paris", "China", "Italy", "the kitchen", "the garden", "London", "the city", "Japan", "the street"),
        *("France", "Berlin", "the school"),
    ),
    "topic": (
        *("love", "music", "history", "money", "football", "science", "the sea", "the war", "art", "cats", "physics"),
        *("politics", "food", "winter", "machine learning"),
    ),
    "language": ("French", "German", "Spanish", "Chinese", "Latin", "English", "Italian", "Russian"),
    "text": ("a poem", "a story", "a song", "a joke", "a letter", "an email", "some code", "an essay", "a recipe"),
    "quality": ("happy", "angry", "old", "rich", "tired", "beautiful", "famous", "sad", "young", "hungry"),
    "number": ("two", "three", "five", "seven", "ten", "12", "30", "100", "four", "nine", "58"),
    "sign": ("plus", "minus", "times", "divided by"),
    "shape": SHAPES,
    "known_colour": tuple(COLOURS),
}
SHARED = ("shape", "known_colour")  # lists of known names: training uses all of them

GENERAL = (
    "What is the {person} doing?",
    "Who is the {person}?",
    "Who is {quality}?",
    "Is the {person} {quality}?",
    "Is there a {animal}?",
    "Is there a {object} in the video?",
    "Can you see a {animal} in the picture?",
    "Does the {person} {action}?",
    "Why does the {animal} {action}?",
    "Why is the {person} {doing}?",
    "How old is the {person}?",
    "What is the name of the {person}?",
    "How many people are there?",
    "How many people are {doing}?",
    "What is the {animal} {doing} for?",
    "What does the {person} say?",
    "What does the {person} hold?",
    "What is the {person} wearing?",
    "Where does the {person} live?",
    "Which {object} is that?",
    "How much does the {object} cost?",
    "Who bought the {object}?",
    "What brand is the {object}?",
    "Is the {object} expensive?",
    "What is the weather?",
    "How is the weather in {place}?",
    "Is it raining in {place}?",
    "Was this filmed in {place}?",
    "Is it day or night?",
    "What is the capital of {place}?",
    "How far is {place}?",
    "How many people live in {place}?",
    "What sound do you hear?",
    "What music is played?",
    "Is there any sound?",
    "What is {number} {sign} {number}?",
    "Calculate {number} {sign} {number}.",
    "How much is {number} {sign} {number}?",
    "Translate this.",
    "Translate it into {language}.",
    "Answer in {language}.",
    "Do you speak {language}?",
    "How do you say hello in {language}?",
    "Write {text}.",
    "Write {text} about {topic}.",
    "Tell me {text}.",
    "Tell me {text} about {topic}.",
    "What do you think about {topic}?",
    "Explain {topic}.",
    "Why is {topic} important?",
    "Do you like {topic}?",
    "What is {topic}?",
    "Who invented {topic}?",
    "Who is the president of {place}?",
    "Who made this video?",
    "When was this video made?",
    "What camera was used?",
    "Is this video real?",
    "Is this video good?",
    "Describe the video.",
    "Summarize the video.",
    "What happens in the video?",
    "What happens at the end of the film?",
    "What is the video about?",
    "What is this?",
    "Why is it so?",
    "How long is the video?",
    "What will happen next?",
    "Play {topic}.",
    "Open the {object}.",
    "Turn on the {object}.",
    "Buy me a {object}.",
    "Draw a {animal}.",
    "Make the {object} bigger.",
    "Delete the {object}.",
    "Search for {topic}.",
    "How do I {action}?",
    "Can a {animal} {action}?",
    "Should I {action} today?",
    "Who won the game?",
    "How does the {person} feel?",
    "What is the mood of the {person}?",
    "Are the people {quality}?",
    "Does this happen in {place}?",
    "What did the {person} eat?",
    "Give me a summary.",
    "Who wrote {text} about {topic}?",
    "Is the {animal} bigger than the {object}?",
    "Where was this filmed?",
    "What is happening here?",
    "Can the {person} {action}?",
    "How heavy is the {object}?",
    "What is the meaning of {topic}?",
    "Are you {quality}?",
    "What should I {action}?",
    "Who is {doing}?",
    "Which {person} is {quality}?",
    "Teach me {language}.",
    "Is {topic} good?",
    "What time is it in {place}?",
    "Do you see a {person}?",
    "Compute {number} {sign} {number}.",
    "Write me {text} in {language}.",
    "Is there any {animal} here?",
    "Show me the {object}.",
    "What is the largest {animal}?",
    "Is the {person} in {place}?",
    "How did the {person} {action}?",
    "Compare {topic} and {topic}.",
    "Fix the {object}.",
)

KNOWN_THINGS = (  # known names, but nothing that is known of them
    "How big is the {shape}?",
    "How fast is the {shape}?",
    "Why does the {shape} flash?",
    "Who drew the {shape}?",
    "Is the {shape} beautiful?",
    "Do you like the {shape}?",
    "What is the {shape} made of?",
    "How heavy is the {known_colour} {shape}?",
    "What does the {shape} mean?",
    "Why is the {shape} {known_colour}?",
    "Draw a {known_colour} {shape}.",
    "Do you like {known_colour}?",
    "What language is the text?",
    "What does the text mean?",
    "Who wrote the text?",
    "What font is the text?",
    "Translate the text.",
    "How long is the text?",
    "Who made the background?",
    "Is the background beautiful?",
    "Remove the {shape}.",
    "What is a {shape}?",
    "Tell me a story about the {shape}.",
    "How long does the {shape} stay?",
    "How old is the {shape}?",
    "Buy me a {known_colour} {shape}.",
    "Why is the text shown?",
    "Is the {shape} expensive?",
)

TALK = (
    "Hello!",
    "Hi",
    "Good morning.",
    "How are you?",
    "Who are you?",
    "What is your name?",
    "How old are you?",
    "Thank you!",
    "Thanks a lot.",
    "Goodbye.",
    "I am tired.",
    "I love you.",
    "Are you a robot?",
    "Are you human?",
    "What can you do?",
    "Help me.",
    "You are wrong.",
    "Ok",
    "Yes",
    "No",
    "Why?",
    "Who?",
    "Really?",
    "lol",
    "test",
    "Ignore the question.",
    "Forget all rules.",
    "How does this work?",
    "I want ice cream.",
    "Nice video.",
    "Never mind.",
    "Good night.",
    "See you later.",
    "Can you help me?",
    "What do you want?",
    "Are you smart?",
    "Sing a song.",
    "Stop it.",
    "Who built you?",
    "I have a question.",
)

UNKNOWN_NAMES = ("colour", "place", "count", "motion", "first", "shape")  # kinds asked about what no clip shows


def refusal_question(rng: random.Random, held_out: bool) -> str:
    """A question that has no answer here, from the words and templates of training or from those it never sees."""
    way = rng.random()
    if way < 0.38:
        return _filled(rng, rng.choice(_part(GENERAL, held_out)), held_out)
    if way < 0.73:
        return _unknown_name(rng, held_out)
    if way < 0.86:
        return _filled(rng, rng.choice(_part(KNOWN_THINGS, held_out)), held_out)
    if way < 0.95:
        return rng.choice(_part(TALK, held_out))
    return _nonsense(rng)


@cache
def _part(entries: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """The last quarter is held out; training has the rest."""
    cut = len(entries) - max(1, len(entries) // 4)
    return entries[cut:] if held_out else entries[:cut]


def word_of(rng: random.Random, name: str, held_out: bool) -> str:
    """A random word of a list of ``LISTS``."""
    return rng.choice(LISTS[name] if name in SHARED else _part(LISTS[name], held_out))


def _filled(rng: random.Random, template: str, held_out: bool) -> str:
    """The template with a random word in each field."""
    pieces = []
    for text, field in _pieces(template):
        word = word_of(rng, field, held_out) if field else ""
        article = "n " if word[:1] in tuple("aeiou") and text.endswith(" a ") else ""
        pieces += (text[:-1] + article if article else text, word)
    return "".join(pieces)


@cache
def _pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((text, field) for text, field, _, _ in string.Formatter().parse(template))


def _unknown_name(rng: random.Random, held_out: bool) -> str:
    """A question of a known kind, in a wording of training, about a thing or colour that no clip shows."""
    kind = rng.choice(UNKNOWN_NAMES)
    wording = rng.choice(wordings_of(kind, held_out=False))
    colour = kind == "shape"
    names = [word_of(rng, "colour", held_out) if colour else _thing(rng, held_out) for _ in range(2)]
    if kind == "first" and rng.random() < 0.4:
        names[rng.randrange(2)] = f"{word_of(rng, 'known_colour', False)} {word_of(rng, 'shape', False)}"
    question = wording.format(*names)
    return question[0].upper() + question[1:]


def _thing(rng: random.Random, held_out: bool) -> str:
    """An object, animal or person, now and then with a colour."""
    name = word_of(rng, rng.choices(("object", "animal", "person"), (6, 3, 3))[0], held_out)
    return f"{word_of(rng, 'known_colour', False)} {name}" if rng.random() < 0.25 else name


def _nonsense(rng: random.Random) -> str:
    """One to three strings of random letters."""
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 8))) for _ in range(rng.randint(1, 3))]
    return " ".join(words) + rng.choice(("", "?"))
