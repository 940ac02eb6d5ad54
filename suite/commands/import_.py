"""scores of models that were made sparse elsewhere, out of a table, as lines that pages mark as imported

sparsemark import scores.csv --task llama --protocol wikitext2-2048

The table has a row for each model, and these columns; the first seven are filled in every row.

  method        its name; the dense model's is dense
  pattern       as `sparsemark list` spells them: unstructured@0.5, 2:4, block16x16@0.9
  seed          0 where there was one only
  metric        its name: perplexity
  better        higher or lower
  value         of the metric
  training      what the method trained: none, mask or weights
  dense_value   of the same seed's dense model; else a row of method dense with that seed
  sparsity      as counted, 0 to 1; else what the pattern states
  data          a name for what it was judged on; else the table's own, which no other scores share
  control       true: it knows nothing, and is what others must beat
  start         dense or fresh: the model it went on from
  iso           what it holds equal to the dense model's: infer_flops, bytes
  tuning_runs, train_flops, train_tokens, infer_flops, nonzeros, bytes     numbers
  ids           papers, by their ids, with spaces between
  note          anything

Scores share a curve where task, protocol, data and metric are the same. One row that is wrong and nothing is
taken: each is named by its line.
"""

import argparse
import sys
from pathlib import Path

from suite import devices
from suite.commands.run import RESULTS
from suite.op import discover_parts
from suite.record import Writer
from suite.registry import Unusable
from suite.run import IMPORTED, default_file
from suite.stated import heading
from suite.studying.imported import imported


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="scores.csv")
    parser.add_argument("--task", required=True, metavar="NAME", help="what was judged: a model's name")
    parser.add_argument(
        "--protocol", required=True, metavar="TEXT", help="how: text, window, stride; letters, digits, . - _"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"default: results/DEVICE/{IMPORTED}/START.jsonl"
    )


def go(given: argparse.Namespace) -> int:
    discover_parts()
    device = devices.find_one(devices.CPU)
    lines, faults = imported(given.file, given.task, given.protocol, device.key)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults or not lines:
        wrong = len({fault.line for fault in faults})
        why = f"{wrong} {'row is' if wrong == 1 else 'rows are'} wrong" if faults else "it has no rows"
        raise Unusable(f"nothing of {given.file} was imported: {why}.")
    file = given.out or default_file(RESULTS, device, IMPORTED)
    if file.exists():
        raise Unusable(f"--out {file} exists. Name another file.")
    header = heading(
        device,
        planned=len(lines),
        options={"study": [given.task], "imported": given.file.name, "protocol": given.protocol},
    )
    with Writer(file) as writer:
        for line in (header, *lines):
            writer.write(line)
    print(f"{len(lines)} {'score' if len(lines) == 1 else 'scores'}, marked as imported, in {file}")
    return 0
