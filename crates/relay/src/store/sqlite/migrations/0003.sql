-- A session that was ended stays until it would have expired: its owner is told that it was ended, which
-- is something else than a session that nobody knows. Of those that have not ended a device has one.
CREATE TABLE session_with_end (
    tag        BLOB    NOT NULL PRIMARY KEY,
    account    TEXT    NOT NULL,
    device     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended      INTEGER NOT NULL DEFAULT 0,
    FOREIGN KEY (account, device) REFERENCES device (account, device)
) STRICT, WITHOUT ROWID;

-- When the sessions of before began is not known; at the latest 30 days before they end.
INSERT INTO session_with_end (tag, account, device, created_at, expires_at)
    SELECT tag, account, device, max(expires_at - 2592000000, 0), expires_at FROM session;
DROP TABLE session;
ALTER TABLE session_with_end RENAME TO session;
CREATE UNIQUE INDEX session_by_device ON session (account, device) WHERE ended = 0;

-- Whether friends do not see when the account is online.
ALTER TABLE account ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
