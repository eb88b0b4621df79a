-- Times are milliseconds since 1970 (UTC). Records are kept as the JSON in which they came;
-- what is looked up or compared stands beside them in columns of its own.

CREATE TABLE account (
    id              TEXT    NOT NULL PRIMARY KEY,
    nickname        TEXT    NOT NULL,
    password_hash   TEXT    NOT NULL,
    email_tag       BLOB    NOT NULL UNIQUE,
    email_sealed    BLOB    NOT NULL,
    identity_key    BLOB    NOT NULL,
    identity        BLOB    NOT NULL,
    sealed_identity BLOB    NOT NULL,
    list            BLOB    NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE device_list (
    account    TEXT    NOT NULL REFERENCES account (id),
    generation INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    PRIMARY KEY (account, generation, version)
) STRICT, WITHOUT ROWID;

-- The devices that stand in the newest list. An id belongs to one pair of keys for ever.
CREATE TABLE device (
    account    TEXT NOT NULL REFERENCES account (id),
    device     BLOB NOT NULL,
    device_key BLOB NOT NULL,
    PRIMARY KEY (account, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE prekey (
    account     TEXT    NOT NULL,
    device      BLOB    NOT NULL,
    hash        BLOB    NOT NULL,
    body        TEXT    NOT NULL,
    replaced_at INTEGER,
    PRIMARY KEY (account, device, hash),
    FOREIGN KEY (account, device) REFERENCES device (account, device)
) STRICT, WITHOUT ROWID;

-- One session for a device; the tag is the SHA-256 of the id, which nobody but the client keeps.
CREATE TABLE session (
    tag        BLOB    NOT NULL PRIMARY KEY,
    account    TEXT    NOT NULL,
    device     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (account, device),
    FOREIGN KEY (account, device) REFERENCES device (account, device)
) STRICT, WITHOUT ROWID;

-- A friendship is two rows.
CREATE TABLE friend (
    account TEXT    NOT NULL REFERENCES account (id),
    friend  TEXT    NOT NULL REFERENCES account (id),
    since   INTEGER NOT NULL,
    PRIMARY KEY (account, friend)
) STRICT, WITHOUT ROWID;

CREATE TABLE friend_request (
    sender       TEXT    NOT NULL REFERENCES account (id),
    receiver     TEXT    NOT NULL REFERENCES account (id),
    greeting     TEXT    NOT NULL,
    requested_at INTEGER NOT NULL,
    PRIMARY KEY (sender, receiver)
) STRICT, WITHOUT ROWID;

CREATE INDEX friend_request_by_receiver ON friend_request (receiver, sender);

-- The head of each room: of its chain of changes, of its epochs, and of its log.
CREATE TABLE room (
    id            BLOB    NOT NULL PRIMARY KEY,
    kind          TEXT    NOT NULL,
    suite         TEXT    NOT NULL,
    version       INTEGER NOT NULL,
    head          BLOB    NOT NULL,
    epoch         INTEGER NOT NULL,
    epoch_hash    BLOB,
    epoch_version INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    hash          BLOB    NOT NULL,
    closed        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What follows from a room's chain of changes, as the code that replays it writes it down.
CREATE TABLE membership (
    room BLOB NOT NULL PRIMARY KEY REFERENCES room (id),
    body TEXT NOT NULL
) STRICT;

-- The one direct room of a pair; `low` sorts before `high`.
CREATE TABLE direct_room (
    low  TEXT NOT NULL REFERENCES account (id),
    high TEXT NOT NULL REFERENCES account (id),
    room BLOB NOT NULL REFERENCES room (id),
    PRIMARY KEY (low, high)
) STRICT, WITHOUT ROWID;

-- Members present and past, to look them up by. `start_seq` and `start_hash` are the position right before the entry
-- by which the member came in; `end_seq` and `end_epoch` are the last that one who went may read.
CREATE TABLE member (
    room       BLOB    NOT NULL REFERENCES room (id),
    account    TEXT    NOT NULL REFERENCES account (id),
    identity   BLOB    NOT NULL,
    role       TEXT    NOT NULL,
    start_seq  INTEGER NOT NULL,
    start_hash BLOB    NOT NULL,
    end_seq    INTEGER,
    end_epoch  INTEGER,
    PRIMARY KEY (room, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_by_account ON member (account, room);

CREATE TABLE entry (
    room      BLOB    NOT NULL REFERENCES room (id),
    seq       INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    log_hash  BLOB    NOT NULL,
    body      TEXT    NOT NULL,
    snapshot  TEXT,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (room, seq),
    UNIQUE (room, hash)
) STRICT;

-- Who sent which number of which epoch under which name: exactly once, and never backwards.
CREATE TABLE message (
    room   BLOB    NOT NULL,
    device BLOB    NOT NULL,
    id     BLOB    NOT NULL,
    epoch  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (room, device, id),
    UNIQUE (room, device, epoch, n),
    FOREIGN KEY (room, seq) REFERENCES entry (room, seq)
) STRICT, WITHOUT ROWID;

-- `after_seq` is the place of the last entry before the epoch is in force.
CREATE TABLE epoch (
    room      BLOB    NOT NULL REFERENCES room (id),
    epoch     INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    after_seq INTEGER NOT NULL,
    body      TEXT    NOT NULL,
    profile   BLOB,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (room, epoch)
) STRICT;

CREATE TABLE wrap (
    room   BLOB    NOT NULL,
    epoch  INTEGER NOT NULL,
    device BLOB    NOT NULL,
    body   TEXT    NOT NULL,
    PRIMARY KEY (room, device, epoch),
    FOREIGN KEY (room, epoch) REFERENCES epoch (room, epoch)
) STRICT;

-- The newest of each member and kind.
CREATE TABLE receipt (
    room    BLOB    NOT NULL,
    account TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (room, account, kind),
    FOREIGN KEY (room, account) REFERENCES member (room, account)
) STRICT, WITHOUT ROWID;
