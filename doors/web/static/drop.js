/** What was dropped or chosen, as things to send: a file, or a folder with all that is in it. */

import { Failure } from "./api.js";
import { visible } from "./format.js";
import { t } from "./strings.js";

/**
 * @typedef {object} Thing
 * @property {string} name
 * @property {boolean} folder
 * @property {number} size
 * @property {{path: string, file: File}[]} files in a folder the paths begin inside it
 * @property {string[]} empty folders with nothing in them
 */

/**
 * @param {File} file
 * @returns {Thing}
 */
function single(file) {
  return { name: file.name, folder: false, size: file.size, files: [{ path: file.name, file }], empty: [] };
}

/**
 * @param {string} name
 * @returns {Thing}
 */
function emptyFolder(name) {
  return { name, folder: true, size: 0, files: [], empty: [] };
}

/**
 * @param {Thing} folder
 * @param {string} path
 * @param {File} file
 */
function add(folder, path, file) {
  folder.files.push({ path, file });
  folder.size += file.size;
}

/**
 * Whether a drag brings files, and not a text or a picture of the page.
 * @param {DataTransfer | null} transfer
 */
export function bringsFiles(transfer) {
  return transfer !== null && [...transfer.types].includes("Files");
}

/**
 * Everything that was dropped. `onCount` is told how many files were found so far.
 * @param {DataTransfer} transfer
 * @param {(count: number) => void} onCount
 * @returns {Promise<Thing[]>}
 */
export async function readDrop(transfer, onCount) {
  // The browser empties `transfer` as soon as this function waits for anything.
  const found = [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry() ?? item.getAsFile())
    .filter((each) => each !== null);
  let count = 0;
  const things = [];
  for (const each of found) {
    if (each instanceof File) things.push(single(each));
    else if (each.isDirectory) things.push(await readFolder(/** @type {FileSystemDirectoryEntry} */ (each), () => onCount(++count)));
    else things.push(single(await fileOf(/** @type {FileSystemFileEntry} */ (each))));
  }
  return things;
}

/**
 * @param {FileSystemDirectoryEntry} root
 * @param {() => void} onFile
 */
async function readFolder(root, onFile) {
  const thing = emptyFolder(root.name);
  const left = [{ folder: root, path: "" }];
  for (let next = left.pop(); next; next = left.pop()) {
    const { folder, path } = next;
    const entries = await entriesOf(folder);
    if (entries.length === 0 && path) thing.empty.push(path);
    for (const entry of entries) {
      const below = path ? `${path}/${entry.name}` : entry.name;
      if (entry.isDirectory) left.push({ folder: /** @type {FileSystemDirectoryEntry} */ (entry), path: below });
      else {
        add(thing, below, await fileOf(/** @type {FileSystemFileEntry} */ (entry)));
        onFile();
      }
    }
  }
  return sorted(thing);
}

/**
 * In one order, however the browser found them: the same folder dropped again has the same list.
 * @param {Thing} thing
 */
function sorted(thing) {
  thing.files.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  thing.empty.sort();
  return thing;
}

/**
 * A browser gives a hundred entries at a time.
 * @param {FileSystemDirectoryEntry} folder
 */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, () => reject(unreadable(folder))));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

/**
 * @param {FileSystemFileEntry} entry
 * @returns {Promise<File>}
 */
function fileOf(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, () => reject(unreadable(entry))));
}

/**
 * A browser does not tell why: no right to read it, a link that leads nowhere, a name that it cannot write.
 * @param {FileSystemEntry} entry
 */
function unreadable(entry) {
  return new Failure(t.send.unreadable(visible(entry.fullPath.slice(1))), t.send.unreadableNext);
}

/**
 * What was chosen with a button. A browser does not tell of empty folders there.
 * @param {FileList} files
 * @returns {Thing[]}
 */
export function readChosen(files) {
  /** @type {Map<string, Thing>} */
  const folders = new Map();
  const things = [];
  for (const file of files) {
    const [top, ...rest] = file.webkitRelativePath.split("/");
    if (!top || rest.length === 0) {
      things.push(single(file));
      continue;
    }
    const folder = folders.get(top) ?? emptyFolder(top);
    folders.set(top, folder);
    add(folder, rest.join("/"), file);
  }
  return [...things, ...[...folders.values()].map(sorted)];
}

/**
 * Several things as one folder.
 * @param {string} name
 * @param {Thing[]} things
 * @returns {Thing}
 */
export function bundle(name, things) {
  const all = emptyFolder(name);
  for (const thing of things) {
    const at = (/** @type {string} */ path) => (thing.folder ? `${thing.name}/${path}` : path);
    for (const { path, file } of thing.files) add(all, at(path), file);
    if (thing.folder && thing.files.length === 0 && thing.empty.length === 0) all.empty.push(thing.name);
    else all.empty.push(...thing.empty.map(at));
  }
  return sorted(all);
}
