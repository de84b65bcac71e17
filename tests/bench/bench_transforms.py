"""How much faster is augmenting a batch than augmenting its images one by one with torchvision on PIL images?

    python tests/bench/bench_transforms.py [--batch 128] [--pairs 7]

Both sides do RandomCrop(32, padding=4), flip, rotation by up to 5 degrees and cutout 16, in one process on one thread.
"""
