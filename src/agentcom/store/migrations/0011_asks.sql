CREATE TABLE ask (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  state TEXT NOT NULL,
  task TEXT,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ask_open ON ask (key) WHERE state = 'open';
