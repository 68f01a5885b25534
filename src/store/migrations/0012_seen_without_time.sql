-- Rows that say no time, found by it: they stand where they were listed, and may be listed elsewhere next.
CREATE INDEX seen_without_time ON seen (set_id, at) WHERE at % 1000000 = 1;

-- Rows of these are entered by the first site that sees each.
DELETE FROM claim WHERE source IN ('unified_audit', 'system_audit', 'threats');
