# A lock file for another build of PyTorch than PyPI's: torch and torchvision keep their versions but not their hashes, and
# what PyPI's build needs of CUDA is left out, since the other build names its own. Everything else keeps its hashes.
/^[a-zA-Z0-9]/ { dropped = /^(nvidia-|cuda-|triton==)/; torch = /^(torch|torchvision)==/ }
dropped || (torch && /--hash=/) { next }
torch { sub(/ *\\$/, "") }
{ print }
