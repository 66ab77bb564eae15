-- Messages are stored once; entries are their places in mailboxes and channels, by sequence.

CREATE TABLE message (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  thread TEXT NOT NULL,
  channel TEXT NOT NULL,
  expires_at INTEGER,
  doc BLOB NOT NULL
) STRICT;

CREATE INDEX message_thread ON message (thread, key);
CREATE INDEX message_expires ON message (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE entry (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  message TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX entry_message ON entry (message);

CREATE TABLE head (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE channel (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  project TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE reader (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  address TEXT NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX reader_address ON reader (address);
