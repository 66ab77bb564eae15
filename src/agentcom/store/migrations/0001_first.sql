-- Tables with short rows keep them in the key's tree; bodies, results and requests are too long
-- for that to pay (measured). Documents are JSON text, kept as blobs to save a conversion. A row's
-- columns stand in the order of `store/schema.py`.

CREATE TABLE meta (
  name TEXT PRIMARY KEY NOT NULL,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE term (
  pool TEXT PRIMARY KEY NOT NULL,
  term INTEGER NOT NULL,
  holder TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A batch's records are one document, keyed by the sequence of the first; the batch's id stands
-- here, too, to tell what became of it.
CREATE TABLE log (
  first INTEGER PRIMARY KEY,
  records INTEGER NOT NULL,
  number INTEGER NOT NULL,
  batch TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT;

-- Which documents of `log` hold records of a feed; up to the mark `listed` in `meta`.
CREATE TABLE feed (
  log TEXT NOT NULL,
  first INTEGER NOT NULL,
  PRIMARY KEY (log, first)
) STRICT, WITHOUT ROWID;

-- The newest batches without records; a ring by slot.
CREATE TABLE batch (
  slot INTEGER PRIMARY KEY,
  number INTEGER NOT NULL,
  id TEXT NOT NULL
) STRICT;

CREATE TABLE task (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  state TEXT NOT NULL,
  project TEXT NOT NULL,
  submitter TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys of the tasks that are not terminal, up to the mark: what the scan at start reads. A partial index on
-- `task` would say the same, and cost each change of state three times as much (measured).
CREATE TABLE live (
  key TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

-- Bodies (kind 0) and results (kind 1) are written once, and share their last pages: a commit
-- that brings both writes a seventh fewer.
CREATE TABLE document (
  kind INTEGER NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  task TEXT,
  doc BLOB NOT NULL,
  UNIQUE (key, kind)
) STRICT;

CREATE VIEW body AS SELECT key, version, doc FROM document WHERE kind = 0;

CREATE VIEW result AS SELECT key, version, task, doc FROM document WHERE kind = 1;

CREATE TABLE edge (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  task TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hold (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  task TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE agent (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  machine TEXT NOT NULL,
  project TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE machine (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  owner TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE user (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  role TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE credential (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  kind TEXT NOT NULL,
  owner TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE request (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT;

CREATE TABLE todo (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  kind TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;
