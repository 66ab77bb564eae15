-- Groups and families of tasks: who belongs to one, and how many there are in which state. Written
-- only for tasks that have a group or a parent; `live` says which tallies the scan at start reads.

CREATE TABLE member (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tally (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  live INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;
