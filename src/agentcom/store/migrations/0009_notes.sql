-- Shared notes with all their versions, and what is known of attached files.

CREATE TABLE note (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT;

CREATE TABLE note_version (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT;

CREATE TABLE blob (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What is found by words: `found` has the words, `findable` says of which row. Written in arrears.
CREATE TABLE findable (
  id INTEGER PRIMARY KEY,
  source TEXT NOT NULL,
  key TEXT NOT NULL,
  project TEXT,
  UNIQUE (source, key)
) STRICT;

CREATE VIRTUAL TABLE found USING fts5 (
  title, text, content = '', contentless_delete = 1,
  tokenize = 'unicode61 remove_diacritics 2'
);
