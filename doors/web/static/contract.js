/**
 * What the page and the daemon say to each other, as types. The page never loads this file: only tsc reads it.
 * docs/web.md and openapi.yaml describe the same. Times are seconds since 1970, sizes are bytes.
 */

/**
 * A failure in words, as the daemon answers it.
 * @typedef {object} Trouble
 * @property {string} error what went wrong
 * @property {string} [next] what to do about it
 * @property {string} [code]
 */

/**
 * @typedef {object} Progress
 * @property {string} step
 * @property {number} bytes
 * @property {number | null} total
 * @property {number | null} rate bytes in a second
 * @property {number | null} eta_s
 * @property {number} shares shares that have a host, or are read
 * @property {number} n shares in all
 * @property {number} hosts
 */

/** @typedef {"receiving" | "waiting" | "publishing" | "done" | "failed"} SendPhase */

/**
 * @typedef {object} Send
 * @property {string} id
 * @property {string} name
 * @property {boolean} folder
 * @property {number} size
 * @property {SendPhase} phase
 * @property {number | null} lease_days
 * @property {number} received_bytes what the daemon has, of all entries
 * @property {Progress | null} progress
 * @property {string} [link] from here on: once it is done
 * @property {number} [k] shares that are enough
 * @property {number} [n]
 * @property {number} [shares]
 * @property {number} [hosts]
 * @property {number} [survives] losses of hosts that it survives
 * @property {number} [kept_until]
 * @property {boolean} [complete] on as many hosts as it should be
 * @property {boolean} [can_complete] more hosts may be found by another try
 * @property {Trouble} [error]
 */

/** @typedef {{path: string, size: number, modified_ms?: number | null, directory?: boolean}} SendEntry */
/** @typedef {Send & {entries: SendEntry[], received: number[]}} SendInFull */

/** @typedef {"waiting" | "fetching" | "done" | "failed"} GetPhase */

/**
 * @typedef {object} Get
 * @property {string} id
 * @property {string | null} name known once it is fetching
 * @property {string} into the folder on this machine
 * @property {GetPhase} phase
 * @property {Progress | null} progress
 * @property {string | null} [path] from here on: where it is, once it is done
 * @property {number} [size]
 * @property {number} [left_out_count] symbolic links that lead out of a folder
 * @property {Trouble} [error]
 */

/**
 * @typedef {object} Info
 * @property {string | null} name
 * @property {number | null} size
 * @property {"file" | "folder" | "link"} kind
 * @property {string} media_type
 * @property {number | null} [entries] what is in a folder, of all kinds
 */

/**
 * @typedef {object} Entry
 * @property {string} name
 * @property {"file" | "folder" | "link"} kind
 * @property {number | null} size
 * @property {number} modified_ms
 * @property {string} media_type
 */

/**
 * @typedef {object} Health what the last check found
 * @property {number} checked_at
 * @property {number} good_shares
 * @property {number} k
 * @property {number} n
 * @property {number} hosts
 * @property {number} survives
 * @property {boolean} readable
 */

/**
 * @typedef {object} Kept what this home has published, or keeps alive
 * @property {string} id
 * @property {string | null} name
 * @property {number | null} size
 * @property {string | null} link null for what others published
 * @property {number} [n] shares in all
 * @property {number} [shares] those that had a host when it was published
 * @property {number} lease_end
 * @property {number | null} deleted_at
 * @property {boolean} kept
 * @property {Health | null} health
 */

/** @typedef {{at: number, sent_bytes: number, received_bytes: number, stored_bytes: number | null, peers: number}} Point */
/**
 * @typedef {object} History
 * @property {number} every_s
 * @property {Point[]} points
 * @property {{sent_bytes: number, received_bytes: number}} month
 */

/**
 * @typedef {object} Status
 * @property {string} version
 * @property {string} network
 * @property {string | null} downloads the folder that files are saved in
 * @property {boolean} serves whether a volunteer's node runs on this home
 * @property {boolean} set_up whether this home has one
 * @property {number} peers
 * @property {string[]} problems
 * @property {NodeStatus} node
 */

/**
 * @typedef {object} NodeStatus of the volunteer's node, where one runs
 * @property {string | null} address
 * @property {string} [line]
 * @property {number} peers_answered
 * @property {number} sent_bytes
 * @property {number} received_bytes
 * @property {number | null} [used_bytes] from here on: of a volunteer alone
 * @property {number | null} [capacity_bytes]
 * @property {number | null} [free_disk_bytes]
 * @property {number | null} [shares]
 * @property {number | null} [files]
 * @property {number} [rebuilt_shares]
 * @property {number} [audits_passed]
 * @property {number} [audits_failed]
 * @property {number} [uptime_s]
 */

/** @typedef {{subject: string, level: "ok" | "note" | "problem", says: string, means: string, advice: string}} Finding */
/** @typedef {{serves: boolean, well: boolean, findings: Finding[]}} Doctor */

/** @typedef {{svg: string, size: number}} QrCode a path, on a square of so many modules */

/**
 * One line of the stream of events.
 * @typedef {{type: "send", send: Send} | {type: "get", get: Get} | {type: "gone", id: string} | {type: "library"}
 *   | {type: "status"} | {type: "beat"}} Change
 */

export {};
