"""
Film reviews: a teacher annotates a sample, students learn from it and label many more.

    accelerate launch recipes/imdb.py --config recipes/imdb_quickstart.yaml   # 2 CPU cores, no Hub (make quickstart)
    accelerate launch recipes/imdb.py --config recipes/imdb_recorded.yaml     # the paper's teacher's own answers, 2 CPU cores
    accelerate launch recipes/imdb.py --config recipes/imdb.yaml              # the paper's setting: GPUs and the Hub

Every argument of the YAML file can also be given on the command line. Stopped and started again, it goes on where it
stopped; with several processes each asks about and labels its share.
"""

from __future__ import annotations

from common import run_recipe
from experiment import ExperimentArguments, main_of

if __name__ == "__main__":
    run_recipe(ExperimentArguments, main_of)
