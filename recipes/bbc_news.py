"""
News articles by section: five classes.

    accelerate launch recipes/bbc_news.py --config recipes/bbc_news.yaml   # 2 CPU cores, no Hub (after make assets)

The data are the 2,225 articles of D. Greene and P. Cunningham (ICML 2006), free for research that is not commercial; on the
Hub as `SetFit/bbc-news`: --data SetFit/bbc-news --data_split train --eval_split test.
"""

from __future__ import annotations

from common import run_recipe
from experiment import ExperimentArguments, main_of

if __name__ == "__main__":
    run_recipe(ExperimentArguments, main_of)
