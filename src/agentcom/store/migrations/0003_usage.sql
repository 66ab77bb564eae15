-- One row for each turn of an agent. Costs are summed here, so what sums go by is a column.

CREATE TABLE usage (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  task TEXT NOT NULL,
  project TEXT NOT NULL,
  submitter TEXT NOT NULL,
  agent TEXT NOT NULL,
  account TEXT,
  model TEXT NOT NULL,
  day INTEGER NOT NULL,
  at INTEGER NOT NULL,
  input INTEGER NOT NULL,
  cached INTEGER NOT NULL,
  written INTEGER NOT NULL,
  output INTEGER NOT NULL,
  cost_micros INTEGER,
  included INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  late INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT;

CREATE INDEX usage_at ON usage (project, at);

CREATE TABLE budget (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  project TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;
