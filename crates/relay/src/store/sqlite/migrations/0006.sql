-- An address that nobody has verified blocks nobody: that another account has it too is no contradiction any
-- more. SQLite cannot take a constraint off a table, so the table is made anew. Foreign keys are off meanwhile,
-- and looked at when all is done.
CREATE TABLE account_without_unique_address (
    id              TEXT    NOT NULL PRIMARY KEY,
    nickname        TEXT    NOT NULL,
    email_tag       BLOB    NOT NULL,
    email_sealed    BLOB    NOT NULL,
    identity_key    BLOB    NOT NULL,
    identity        BLOB    NOT NULL,
    sealed_identity BLOB    NOT NULL,
    list            BLOB    NOT NULL,
    created_at      INTEGER NOT NULL,
    password        BLOB,
    recovery_key    BLOB,
    hidden          INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

INSERT INTO account_without_unique_address (id, nickname, email_tag, email_sealed, identity_key, identity,
        sealed_identity, list, created_at, password, recovery_key, hidden)
    SELECT id, nickname, email_tag, email_sealed, identity_key, identity,
        sealed_identity, list, created_at, password, recovery_key, hidden FROM account;
DROP TABLE account;
ALTER TABLE account_without_unique_address RENAME TO account;

-- Who may come in, once each. The tag is the SHA-256 of the token, which nobody but who is invited has.
CREATE TABLE invitation (
    tag        BLOB    NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_by    TEXT
) STRICT, WITHOUT ROWID;

-- Oldest first, for the sweep.
CREATE INDEX invitation_by_end ON invitation (expires_at);
