-- What is known of each computer that any row named. It goes by its organization's short key, and so passes over
-- with the organizations of a site that gets another name.
CREATE TABLE device (
  id INTEGER PRIMARY KEY,        -- short key used by `last_user`
  organization INTEGER NOT NULL, -- organization.id
  computer TEXT NOT NULL,        -- the vendor's id, a GUID in lower case
  name TEXT,                     -- the facts, as the computers last told them
  host TEXT,                     -- the host's name in lower case; several devices may have one
  os TEXT,
  group_name TEXT,
  organization_name TEXT,
  mode TEXT,
  told TEXT NOT NULL DEFAULT '', -- the last user, as the device's last record told it
  unlisted INTEGER,              -- since when the computers do not list it; NULL while they do
  UNIQUE (organization, computer)
) STRICT;

-- Rows that have no id of their computer name its host.
CREATE INDEX device_by_host ON device (organization, host);

-- A row each time that another user came, so that it grows with changes and not with rows.
CREATE TABLE last_user (
  device INTEGER NOT NULL,       -- device.id
  origin INTEGER NOT NULL,       -- 0 the computers, 1 the unified audit
  since INTEGER NOT NULL,
  name TEXT NOT NULL,            -- '' = nobody, where the computers named somebody before
  PRIMARY KEY (device, origin, since)
) STRICT, WITHOUT ROWID;
