/** Every word that the page says, in English. */

import { countOf, dayOf, daysUntil, rateOf, sizeOf, spanOf } from "./format.js";

/**
 * @param {number} count
 * @param {string} one
 * @param {string} many
 */
const plural = (count, one, many = `${one}s`) => `${countOf(count)} ${count === 1 ? one : many}`;

/**
 * Rate and time left, what is known of them.
 * @param {number | null | undefined} rate
 * @param {number | null | undefined} etaS
 */
const pace = (rate, etaS) => {
  const words = [];
  if (rate) words.push(rateOf(rate));
  if (etaS !== null && etaS !== undefined) words.push(`${spanOf(etaS)} left`);
  return words.join(" · ");
};

/** @param {number} survives */
const losses = (survives) =>
  survives <= 0 ? "survives no further loss" : `survives the loss of any ${plural(survives, "host")}`;

export const t = {
  brand: "Shoal",
  skip: "Skip to the content",
  views: { send: "Send", get: "Get", yours: "Yours", node: "Node" },
  viewsLabel: "Views",
  title: (/** @type {string} */ view) => `${view} · Shoal`,
  titleBusy: (/** @type {number} */ part, /** @type {string} */ view) => `${Math.floor(part * 100)} % · ${view} · Shoal`,

  connection: {
    connecting: "Connecting",
    away: "Node away",
    locked: "No key",
    peers: (/** @type {number} */ count) => (count === 0 ? "No peers yet" : plural(count, "peer")),
    label: (/** @type {string} */ words) => `State of your node: ${words}`,
  },
  away: {
    title: "Your node does not answer.",
    next: "Start it again with “shoal web”. This page goes on by itself as soon as it is there. Nothing is lost.",
    tryNow: "Try now",
  },
  locked: {
    title: "This tab has no key to your node.",
    next: "For your safety the key is only in the address that “shoal web” prints. Run it again in a terminal, and a tab with the key opens.",
    command: "shoal web",
  },
  trouble: {
    unforeseen: "The page met something that nobody foresaw.",
    reload: "Load the page again. What was under way goes on.",
    away: "Your node does not answer.",
    awayNext: "Start it again with “shoal web”, then try again.",
    strange: (/** @type {number} */ status) => `Your node answered with something that this page does not understand (${status}).`,
    strangeNext: "Load the page again. If that does not help, the page and the node are of different versions.",
    changed: "A file can no longer be read. It has changed, or is gone.",
    changedNext: "Cancel this one, and send the files again as they are now.",
    retry: "Try again",
    close: "Close",
  },

  send: {
    heading: "Send a file to anyone",
    lead: "It is encrypted on this machine, and volunteers keep its pieces. You get a link. Anyone with the link can fetch it, and nobody else can read it.",
    drop: "Drop files or a folder anywhere on this page",
    dropNow: "Let go to send",
    files: "Choose files",
    folder: "Choose a folder",
    keepFor: "Keep for",
    days: (/** @type {number} */ count) => plural(count, "day"),
    keepNote: "Anyone can renew it before then.",
    looking: (/** @type {number} */ count) => `Looking at what is in there: ${plural(count, "file")} so far`,
    nothing: "There is no file in what you dropped.",
    nothingNext: "Empty folders have nothing to send. Drop a file, or a folder with files.",
    unreadable: (/** @type {string} */ path) => `The browser cannot read “${path}”, so nothing of it was sent.`,
    unreadableNext: "Look whether you may read it, and whether its name is written in UTF-8. Or send it with “shoal publish”.",
    several: (/** @type {number} */ count) => `You chose ${countOf(count)} things`,
    severalText: (/** @type {number} */ size) => `Together ${sizeOf(size)}. Should one link lead to all of them, or each have its own?`,
    oneLink: "One link for all",
    eachLink: (/** @type {number} */ count) => `${countOf(count)} links, one each`,
    bundleName: (/** @type {string} */ first, /** @type {number} */ others) => `${first} and ${countOf(others)} more`,
    list: "Your sends",
    folderMark: "Folder",

    reading: "Reading from your disk",
    readingPace: (/** @type {number} */ done, /** @type {number} */ total, /** @type {number | null} */ rate, /** @type {number | null} */ etaS) =>
      [`${sizeOf(done)} of ${sizeOf(total)}`, pace(rate, etaS)].filter(Boolean).join(" · "),
    elsewhere: "Another tab is reading this from your disk",
    queued: "Waits until the others have been read",
    stopped: (/** @type {number} */ done, /** @type {number} */ total) => `Stopped at ${sizeOf(done)} of ${sizeOf(total)}`,
    stoppedNext: "The page was closed or loaded again. Choose the same files once more, and it goes on from there.",
    chooseAgain: "Choose again",
    notSame: (/** @type {string} */ name) => `These are not the files of “${name}”.`,
    notSameNext: "Choose exactly what you chose before: same names, same sizes. Or cancel it, and send these as new ones.",
    waiting: "Looking for volunteers",
    waitingNext: "It starts as soon as enough hosts have answered.",
    publishing: "Handing the pieces to volunteers",
    steps: /** @type {Record<string, string>} */ ({
      listing: "Looking at the files",
      connecting: "Looking for volunteers",
      placing: "Asking volunteers for room",
      sending: "Handing the pieces to volunteers",
      verifying: "Reading it once more, to be sure that nothing changed",
      committing: "Volunteers check what they got",
      announcing: "Making it findable",
    }),
    few: (/** @type {number} */ shares, /** @type {number} */ n) => `Only ${countOf(shares)} of ${plural(n, "share")} found a host.`,
    fewNext: "It can be fetched, and survives fewer losses than it should.",
    completeNow: "Look for more hosts",
    pace: (/** @type {import("./contract.js").Progress} */ progress) => {
      const { bytes, total } = progress;
      const size = total === null ? sizeOf(bytes) : `${sizeOf(Math.min(bytes, total))} of ${sizeOf(total)}`;
      return [size, pace(progress.rate, progress.eta_s)].filter(Boolean).join(" · ");
    },
    shares: (/** @type {import("./contract.js").Progress} */ { shares, n, hosts }) =>
      `${countOf(shares)} of ${plural(n, "share")} on ${plural(hosts, "host")}`,
    survives: (/** @type {number} */ survives) => `It ${losses(survives)}.`,
    until: (/** @type {number} */ at) => `Kept until ${dayOf(at)}.`,
    secret: "The link is the key. Give it only to those who should read this.",
    failed: "It did not work",
    cancel: "Cancel",
    cancelName: (/** @type {string} */ name) => `Cancel sending ${name}`,
    forget: "Take off the list",
    forgetName: (/** @type {string} */ name) => `Take ${name} off this list`,
    readingBar: (/** @type {string} */ name) => `Reading ${name} from your disk`,
    publishingBar: (/** @type {string} */ name) => `Handing ${name} to volunteers`,
    saidDone: (/** @type {string} */ name) => `${name} is ready. Its link can be copied.`,
    saidFailed: (/** @type {string} */ name) => `${name} could not be sent.`,
    saidBegun: (/** @type {string} */ name) => `Sending ${name}.`,
  },

  link: {
    label: (/** @type {string} */ name) => `Link to ${name}`,
    copy: "Copy link",
    copyAddress: "Copy address",
    copied: "Copied",
    saidCopied: "Copied to the clipboard.",
    byHand: "The browser did not let the page copy. The text is selected: press Ctrl+C.",
    qr: "QR code",
    hideQr: "Hide QR code",
    qrLabel: (/** @type {string} */ name) => `QR code of the link to ${name}`,
  },

  get: {
    heading: "Get what somebody sent you",
    lead: "Paste the link. Spaces, quotes and line breaks around it do not matter.",
    field: "Link",
    placeholder: "shoal:…",
    look: "Look",
    looking: "Looking for it in the network",
    empty: "Paste a link first.",
    emptyNext: "It begins with “shoal:”. The person who sent the file has it.",
    file: "File",
    folder: (/** @type {number | null | undefined} */ entries) => (entries ? `Folder with ${plural(entries, "entry", "entries")}` : "Folder"),
    noName: "Something without a name",
    save: "Save all",
    saveFile: "Save",
    saveSome: (/** @type {number} */ count) => `Save ${countOf(count)} selected`,
    into: "Save into",
    play: "Play",
    view: "View",
    playName: (/** @type {string} */ name) => `Play ${name}`,
    viewName: (/** @type {string} */ name) => `View ${name}`,
    playing: (/** @type {string} */ name) => `Playing ${name}`,
    cannotPlay: "This browser cannot play it.",
    cannotPlayNext: "Copy the address into a player such as mpv or VLC, or save the file.",
    address: "Address for another player on this machine, for as long as the node runs",
    stopPlay: "Close",
    contents: "What is in it",
    select: (/** @type {string} */ name) => `Select ${name}`,
    open: (/** @type {string} */ name) => `Open the folder ${name}`,
    more: "Show more",
    emptyFolder: "Nothing is in this folder.",
    loading: "Reading the list",
    linkMark: "leads elsewhere",
    list: "Your downloads",
    waiting: "Waits for its turn",
    searching: "Looking for its hosts",
    fetching: "Fetching",
    pace: (/** @type {import("./contract.js").Progress} */ progress) => t.send.pace(progress),
    hosts: (/** @type {number | undefined} */ hosts) => (hosts ? `from ${plural(hosts, "host")}` : ""),
    done: "Saved",
    where: (/** @type {string} */ target) => `In ${target}`,
    failed: "It did not work",
    leftOut: (/** @type {number} */ count) => `${plural(count, "symbolic link")} that would lead out of the folder ${count === 1 ? "was" : "were"} left out.`,
    cancel: "Stop",
    cancelName: (/** @type {string} */ name) => `Stop getting ${name}`,
    forget: "Take off the list",
    forgetName: (/** @type {string} */ name) => `Take ${name} off this list. The file stays.`,
    bar: (/** @type {string} */ name) => `Getting ${name}`,
    saidDone: (/** @type {string} */ name) => `${name} is saved.`,
    saidFailed: (/** @type {string} */ name) => `${name} could not be saved.`,
    saidBegun: (/** @type {string} */ name) => `Saving ${name}.`,
  },

  yours: {
    heading: "What you have out there",
    total: (/** @type {number} */ count, /** @type {number} */ size) => `${plural(count, "item")}, ${sizeOf(size)} in all.`,
    list: "Files and folders",
    none: "You have sent nothing yet.",
    noneNext: "What you send appears here, with how it is and until when it is kept.",
    toSend: "Send something",
    filter: "Find by name",
    noMatch: "Nothing here has such a name.",
    unknown: (/** @type {number} */ shares, /** @type {number} */ n) =>
      n ? `${countOf(shares)} of ${plural(n, "share")} placed when it was sent, not looked at today` : "Not looked at today",
    good: (/** @type {import("./contract.js").Health} */ health) =>
      health.readable
        ? `${countOf(health.good_shares)} of ${plural(health.n, "share")} good: ${losses(health.survives)}`
        : `${countOf(health.good_shares)} of ${plural(health.n, "share")} found. ${countOf(health.k)} are needed.`,
    healthWord: { good: "Well", weak: "Weak", lost: "Cannot be read", unknown: "Not checked" },
    lease: (/** @type {number} */ at) => {
      const days = daysUntil(at);
      return `Kept until ${dayOf(at)} (${days === 0 ? "less than a day" : plural(days, "day")})`;
    },
    leaseOver: "Its time is over: hosts may have dropped it",
    noName: (/** @type {string} */ hash) => `What others published (${hash}…)`,
    kept: "Your node renews it",
    check: "Check now",
    checking: "Checking",
    renew: "Renew for 90 days",
    keep: "Keep alive",
    unkeep: "Stop keeping alive",
    remove: "Delete",
    removing: "Telling its hosts",
    removedInPart: (/** @type {string} */ name) => `Not every host of ${name} has confirmed that it drops it.`,
    removedInPartNext: "The others hear of it from their neighbours when they are back.",
    removeTitle: (/** @type {string} */ name) => `Delete “${name}”?`,
    removeText: "Its hosts are told to drop it, and the link stops working for everybody. This cannot be undone.",
    removeYes: "Delete for everybody",
    no: "Keep it",
    saidChecked: (/** @type {string} */ name) => `${name} has been checked.`,
    saidRenewed: (/** @type {string} */ name) => `${name} is renewed.`,
    saidKept: (/** @type {string} */ name) => `Your node now renews ${name}.`,
    saidUnkept: (/** @type {string} */ name) => `Your node no longer renews ${name}.`,
    saidRemoved: (/** @type {string} */ name) => `${name} is deleted.`,
  },

  node: {
    heading: "Your node",
    well: "All is well.",
    wrong: (/** @type {number} */ count) => (count === 1 ? "One thing needs a look." : `${countOf(count)} things need a look.`),
    client: "This one only sends and gets. It keeps nothing for others.",
    clientNext: "To give others some of your disk, run “shoal node init --capacity 50GB” once, and then “shoal node run --web”.",
    runNext: "Your volunteer’s node does not run. Start it with “shoal node run --web”.",
    disk: "Disk",
    diskUsed: (/** @type {number} */ used, /** @type {number} */ given) => `${sizeOf(used)} of ${sizeOf(given)} given`,
    diskFree: (/** @type {number} */ free) => `${sizeOf(free)} free on this disk`,
    shares: (/** @type {number} */ shares, /** @type {number} */ files) => `${plural(shares, "share")} of ${plural(files, "file")}`,
    traffic: "Traffic",
    sent: "Sent",
    received: "Received",
    up: (/** @type {number} */ rate) => `↑ ${rateOf(rate)}`,
    down: (/** @type {number} */ rate) => `↓ ${rateOf(rate)}`,
    month: (/** @type {number} */ sent, /** @type {number} */ received) => `This month ↑ ${sizeOf(sent)}, ↓ ${sizeOf(received)}`,
    start: (/** @type {number} */ sent, /** @type {number} */ received) => `Since the start ↑ ${sizeOf(sent)}, ↓ ${sizeOf(received)}`,
    peers: "Peers",
    answered: (/** @type {number} */ count) => `${countOf(count)} answered in the last 15 minutes`,
    care: "Care",
    audits: (/** @type {number} */ passed, /** @type {number} */ failed) => `${plural(passed, "audit")} passed, ${countOf(failed)} failed`,
    repairs: (/** @type {number} */ shares) => `${plural(shares, "share")} made again`,
    findings: "How it stands",
    levels: { ok: "Good", note: "Note", problem: "Problem" },
    subjects: /** @type {Record<string, string>} */ ({
      reachable: "Reachability",
      router: "Router",
      address: "Address",
      relays: "Relays",
      line: "Line",
      datagrams: "Datagrams",
      connections: "Connections",
      ipv6: "IPv6",
      clock: "Clock",
      disk: "Disk",
      version: "Version",
      node: "Node",
    }),
    address: (/** @type {string} */ address) => `Reached at ${address}`,
    noAddress: "No address is known yet",
    uptime: (/** @type {number} */ seconds) => `Runs for ${spanOf(seconds)}`,
    about: (/** @type {string | undefined} */ version, /** @type {string | undefined} */ network) =>
      [version && `Shoal ${version}`, network && `network “${network}”`].filter(Boolean).join(", "),
    plots: "The last 24 hours",
    plotTraffic: "Traffic",
    plotStored: "Kept for others",
    plotPeers: "Peers",
    noHistory: "The first points come after five minutes.",
    range: (/** @type {string} */ least, /** @type {string} */ most, /** @type {string} */ last) => `Least ${least}, most ${most}, now ${last}.`,
    most: (/** @type {string} */ value) => `most ${value}`,
    hoursAgo: "24 h ago",
    nowMark: "now",
  },
};
