"""
Seconds that `import hf_llambert` adds to starting Python, in new processes.

    python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys
import time


def seconds(code):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    pairs = [(seconds("pass"), seconds("import hf_llambert")) for _ in range(11)]
    added = [package - nothing for nothing, package in pairs]
    print(
        f"import hf_llambert: {statistics.median(added):.3f} s (median of {len(added)}, {min(added):.3f} to {max(added):.3f})"
    )
