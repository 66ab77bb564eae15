-- What people have paused: everything, pools, projects. A task's own pause stands in its row.
CREATE TABLE pause (
  key TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  doc BLOB NOT NULL
) STRICT, WITHOUT ROWID;
