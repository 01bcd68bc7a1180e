"""The tables, as the steps that led to them: a new database goes through all, an older one through those it lacks.

So a database that was carried over cannot differ from a new one. A step is never edited once released.
"""

VERSION_1 = """
CREATE TABLE files (
    file_id BLOB PRIMARY KEY NOT NULL,
    manifest BLOB NOT NULL
);
CREATE TABLE shares (
    file_id BLOB NOT NULL,
    share_number INTEGER NOT NULL,
    lease_end INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    upload_id BLOB NOT NULL,
    share_bytes INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    state INTEGER NOT NULL,
    folder TEXT,
    data BLOB,
    PRIMARY KEY (file_id, share_number)
);
CREATE INDEX shares_by_upload ON shares (upload_id);
CREATE INDEX shares_by_lease ON shares (lease_end);
CREATE TABLE uploads (
    upload_id BLOB PRIMARY KEY NOT NULL,
    source BLOB NOT NULL,
    size_bound INTEGER NOT NULL,
    touched INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    data BLOB
);
CREATE TABLE upload_leaves (
    upload_id BLOB NOT NULL,
    first_block INTEGER NOT NULL,
    block_leaves BLOB NOT NULL,
    data_leaves BLOB NOT NULL,
    PRIMARY KEY (upload_id, first_block)
);
CREATE TABLE statements (
    file_id BLOB NOT NULL,
    share_number INTEGER NOT NULL,
    holder_id BLOB NOT NULL,
    expires INTEGER NOT NULL,
    lease_end INTEGER NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (file_id, share_number, holder_id)
) WITHOUT ROWID;
CREATE TABLE intake (
    source BLOB NOT NULL,
    hour INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (source, hour)
) WITHOUT ROWID;
CREATE TABLE garbage (
    path TEXT PRIMARY KEY NOT NULL
) WITHOUT ROWID;
"""

# What is kept about few shares, or changes often, has tables of its own. To read a column behind `data`, SQLite reads
# all pages of the data. A column before it would mean copying every small share when the table is changed.
VERSION_2 = """
CREATE TABLE uptime (
    seconds REAL NOT NULL
);
INSERT INTO uptime VALUES (0);
CREATE TABLE expired (
    file_id BLOB NOT NULL,
    share_number INTEGER NOT NULL,
    uptime REAL NOT NULL,
    PRIMARY KEY (file_id, share_number)
) WITHOUT ROWID;
CREATE TABLE tombstones (
    file_id BLOB PRIMARY KEY NOT NULL,
    deleted_at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    tombstone BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstones_by_end ON tombstones (until);
CREATE TABLE scrubbed (
    file_id BLOB NOT NULL,
    share_number INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    next_block INTEGER NOT NULL,
    checked_at INTEGER NOT NULL,
    PRIMARY KEY (file_id, share_number)
) WITHOUT ROWID;
CREATE INDEX scrubbed_by_turn ON scrubbed (turn);
INSERT INTO scrubbed SELECT file_id, share_number, 0, 0, 0 FROM shares WHERE state != 2;
CREATE TABLE quarantine (
    path TEXT PRIMARY KEY NOT NULL,
    file_id BLOB NOT NULL,
    share_number INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    uptime REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX quarantine_by_share ON quarantine (file_id, share_number);
"""

VERSION_3 = """
ALTER TABLE uptime ADD COLUMN noted_at REAL NOT NULL DEFAULT 0;
"""

# Questions about all shares at once (counts, damaged ones, those in files) are answered from these indexes. Reading the
# rows would mean reading all the data of small shares in them. The state stands last. SQLite does not know that nearly
# all rows have the same state, and would use an index that begins with it for other questions too.
VERSION_4 = """
CREATE INDEX shares_states ON shares (file_id, share_number, state);
CREATE INDEX shares_in_files ON shares (file_id, share_number, state, file_bytes, folder) WHERE folder IS NOT NULL;
"""

# Which host a file came from, and the group of hosts that each tombstone counts for. Files of older versions have no
# row; their tombstones count for one group, the empty one.
VERSION_5 = """
CREATE TABLE sources (
    file_id BLOB PRIMARY KEY NOT NULL,
    source BLOB NOT NULL
) WITHOUT ROWID;
ALTER TABLE tombstones ADD COLUMN source BLOB NOT NULL DEFAULT x'';
CREATE INDEX tombstones_by_source ON tombstones (source, until);
CREATE TABLE tombstone_sources (
    source BLOB PRIMARY KEY NOT NULL,
    kept INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstone_sources_by_count ON tombstone_sources (kept);
INSERT INTO tombstone_sources SELECT source, count(*) FROM tombstones GROUP BY source;
"""

STEPS = (VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5)
SCHEMA_VERSION = len(STEPS)
