-- Passwords are kept as OPAQUE records (protocol.md, section 6). An account of the first version keeps its
-- session, but nothing here can make a record of its old hash: it cannot log in again or be recovered.
ALTER TABLE account DROP COLUMN password_hash;
ALTER TABLE account ADD COLUMN password BLOB;
ALTER TABLE account ADD COLUMN recovery_key BLOB;

ALTER TABLE device_list ADD COLUMN stored_at INTEGER NOT NULL DEFAULT 0;

-- A device that was taken off the list stays here, so that it never comes back.
ALTER TABLE device ADD COLUMN removed_at INTEGER;

-- Replaced prekeys are kept for a day: so many are counted.
ALTER TABLE prekey ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE prekey ADD COLUMN stored_at INTEGER NOT NULL DEFAULT 0;
UPDATE prekey SET created_at = json_extract(body, '$.created_at');
