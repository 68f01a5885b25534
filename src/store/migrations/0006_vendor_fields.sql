-- What was noticed of the fields of a set's rows: those that all rows have, those that this version does not
-- know by name, and those that were in all rows and are in none any more.
CREATE TABLE vendor_field (
  set_id INTEGER NOT NULL REFERENCES seen_set(id),
  field TEXT NOT NULL,
  state TEXT NOT NULL,           -- 'usual', 'added', 'dropped'
  since INTEGER NOT NULL,        -- when it was noticed
  PRIMARY KEY (set_id, field)
) STRICT, WITHOUT ROWID;
