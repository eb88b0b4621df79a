-- When this relay was last at work, in milliseconds since 1970: sessions do not age while it is off.
CREATE TABLE work (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    last_at INTEGER NOT NULL
) STRICT;
