-- The flows of one bridge, in a schema of their own. Times are nanoseconds since 1970, `due` is when
-- the flow next needs attention. `record` is the whole record as JSON; the columns beside it are what
-- is searched.
CREATE TABLE store (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    layout     integer NOT NULL,
    owner      text NOT NULL,               -- drawn anew by each bridge that takes the store over
    commits    bigint NOT NULL              -- counts transactions: tells whether the last one stood
);

CREATE TABLE flow (
    key        bytea PRIMARY KEY,           -- role and id, and for a receiver the peer: sorts as pages do
    role       text NOT NULL CHECK (role IN ('sender', 'receiver')),
    peer       text NOT NULL,
    msg_id     numeric(39) NOT NULL,        -- an id has up to 128 bits
    state      text NOT NULL,
    due        bigint,
    version    bigint NOT NULL,
    record     text NOT NULL
);

CREATE INDEX flow_due ON flow (due) WHERE due IS NOT NULL;
CREATE INDEX flow_state ON flow (role, state, key);

-- What may be large stands apart: a change of a flow rewrites its whole row above, and none of these.
CREATE TABLE body (
    key        bytea NOT NULL,
    part       text NOT NULL CHECK (part IN ('payload', 'response', 'wrong')),
    data       bytea NOT NULL,
    PRIMARY KEY (key, part)
);

-- What flows take of the quotas; peer is '' in the row for all.
CREATE TABLE usage (
    role       text NOT NULL,
    peer       text NOT NULL,
    open       bigint NOT NULL,
    tombstones bigint NOT NULL,
    bytes      bigint NOT NULL,
    unanswered bigint NOT NULL,
    PRIMARY KEY (role, peer)
);

-- Small values kept by name: the last id minted, how far an outbox was read.
CREATE TABLE note (
    name       text PRIMARY KEY,
    value      bytea NOT NULL
);
