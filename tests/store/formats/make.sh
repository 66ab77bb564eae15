#!/bin/sh
# Writes the data of all formats anew, each with the last program that had it. From the top folder.
# Formats without a file were never written by a program: they lie between two steps of one start.
set -eu
while read -r format commit; do
  folder=$(mktemp -d)
  git archive "$commit" src | tar -x -C "$folder"
  PYTHONPATH="$folder/src" .venv/bin/python tests/store/formats/write.py > "tests/store/formats/$format.sql"
  rm -rf "$folder"
done <<'LIST'
0001 8f44396
0002 9964804
0004 7e14bff
0007 e45dd02
0011 690f2a1
LIST
