-- The flows of one bridge. Times are nanoseconds since 1970, `due` is when the flow next needs
-- attention. `record` is the whole record as JSON; the columns beside it are what is searched.
CREATE TABLE flow (
    key        BLOB PRIMARY KEY NOT NULL,   -- role and id, and for a receiver the peer: sorts as pages do
    role       TEXT NOT NULL CHECK (role IN ('sender', 'receiver')),
    peer       TEXT NOT NULL,
    msg_id     TEXT NOT NULL,               -- decimal: an id has up to 128 bits
    state      TEXT NOT NULL,
    due        INTEGER,
    version    INTEGER NOT NULL,
    record     TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX flow_due ON flow (due) WHERE due IS NOT NULL;
CREATE INDEX flow_state ON flow (role, state, key);

-- What may be large stands apart: a change of a flow rewrites its whole row above, and none of these.
CREATE TABLE body (
    key        BLOB NOT NULL,
    part       TEXT NOT NULL CHECK (part IN ('payload', 'response', 'wrong')),
    data       BLOB NOT NULL,
    PRIMARY KEY (key, part)
);

-- What flows take of the quotas; peer is '' in the row for all.
CREATE TABLE usage (
    role       TEXT NOT NULL,
    peer       TEXT NOT NULL,
    open       INTEGER NOT NULL,
    tombstones INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    unanswered INTEGER NOT NULL,
    PRIMARY KEY (role, peer)
) WITHOUT ROWID;

-- Small values kept by name: the last id minted, how far an outbox was read.
CREATE TABLE note (
    name       TEXT PRIMARY KEY NOT NULL,
    value      BLOB NOT NULL
) WITHOUT ROWID;
