-- Limits that people set, and what rates have given out.

CREATE TABLE rule (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rate (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;
