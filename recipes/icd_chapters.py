"""
Names of diagnoses by the chapter of ICD-10-CM they stand in: 21 classes, short texts, a lopsided distribution.

    accelerate launch recipes/icd_chapters.py --config recipes/icd_chapters.yaml   # 2 CPU cores, no Hub (after make assets)

The classification is in the public domain (CDC and CMS); chapter 22, codes for special purposes, has too few names and is
left out.
"""

from __future__ import annotations

from common import run_recipe
from experiment import ExperimentArguments, main_of

if __name__ == "__main__":
    run_recipe(ExperimentArguments, main_of)
