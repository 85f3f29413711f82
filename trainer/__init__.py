"""The program that trains: one folder per run, every step on disk, and a bell that it listens to.

`trainer.log` needs the standard library only and serves any training script; everything else needs torch.
"""
