-- Accounts whose quota is used up.

CREATE TABLE account (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;
