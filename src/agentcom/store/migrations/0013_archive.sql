-- A row of usage may stand for the turns of a day, once the tasks that had them are archived.
ALTER TABLE usage ADD COLUMN turns INTEGER NOT NULL DEFAULT 1;
