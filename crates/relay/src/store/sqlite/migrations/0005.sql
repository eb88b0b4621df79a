-- What is looked up by other columns than those of a primary key.

-- Ended sessions, too: they are forgotten at the account's next log-in.
CREATE INDEX session_by_account ON session (account, device);
-- An epoch that is announced again is looked for before anything about it is judged.
CREATE UNIQUE INDEX epoch_by_hash ON epoch (room, hash);
-- Where a member's first epoch is, in a room that had many before it came.
CREATE INDEX epoch_by_place ON epoch (room, after_seq, epoch);
-- Lists are kept for ever, and those of a day are counted.
CREATE INDEX device_list_by_time ON device_list (account, stored_at);

-- What has had its time, oldest first: it is swept a bit at a time.
CREATE INDEX session_by_end ON session (expires_at);
CREATE INDEX prekey_by_end ON prekey (replaced_at) WHERE replaced_at IS NOT NULL;
CREATE INDEX friend_request_by_time ON friend_request (requested_at);
