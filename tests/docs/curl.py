"""A replacement for curl, with the options that the documentation uses."""

import argparse
import sys
import urllib.error
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("-s", "--silent", action="store_true")
parser.add_argument("-N", "--no-buffer", action="store_true")
parser.add_argument("-X", "--request")
parser.add_argument("-H", "--header", action="append", default=[])
parser.add_argument("-d", "--data")
parser.add_argument("-m", "--max-time", type=float)
asked = parser.parse_args()

request = urllib.request.Request(
    asked.url if "://" in asked.url else f"http://{asked.url}",
    data=None if asked.data is None else asked.data.encode(),
    headers=dict(header.split(": ", 1) for header in asked.header),
    method=asked.request,
)
try:
    with urllib.request.urlopen(request, timeout=asked.max_time) as answer:
        while piece := answer.read1():
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
except urllib.error.HTTPError as error:
    sys.stdout.buffer.write(error.read())
