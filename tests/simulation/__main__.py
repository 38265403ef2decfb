"""python -m tests.simulation --seeds 10000 [--from N] [--seed N]: see `story.py`."""

import argparse
import logging
import sys
import time

from tests.simulation.story import broken, search


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--seed", type=int, help="run only this seed, and print all events")
    asked = parser.parse_args()
    if asked.seed is not None:
        logging.disable()
        problem = broken(asked.seed)
        print(problem or "nothing is broken")
        return problem is not None
    begun = time.monotonic()
    failed = 0
    for seed, problem in search(range(asked.first, asked.first + asked.seeds)):
        if problem is not None:
            failed += 1
            print(f"seed {seed}: {problem.splitlines()[-1][:400]}", flush=True)
    print(f"{asked.seeds} seeds in {time.monotonic() - begun:.1f} s, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
