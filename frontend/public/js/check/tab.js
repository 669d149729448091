// @ts-check
/** This tab's id and the key that encrypts what it stores. Both are lost when the tab is closed. */

/** @typedef {{id: string, key: string}} Tab its id, and its key in base64 */
/** @typedef {{iv: Uint8Array<ArrayBuffer>, data: ArrayBuffer}} Sealed */

const SESSION = "aiderm-tab";
const AES = "AES-GCM";

/** @param {Uint8Array<ArrayBuffer>} bytes */
const toText = (bytes) => btoa(String.fromCharCode(...bytes));

/** @param {string} text */
const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** @returns {Tab | null} null: it has stored nothing so far */
export function knownTab() {
  try {
    return JSON.parse(sessionStorage.getItem(SESSION) ?? "null");
  } catch {
    return null;
  }
}

/** This tab's id and key, created if necessary. @returns {Tab} */
export function thisTab() {
  const known = knownTab();
  if (known) return known;
  const random = (/** @type {number} */ length) => toText(crypto.getRandomValues(new Uint8Array(length)));
  const tab = { id: random(9), key: random(32) };
  sessionStorage.setItem(SESSION, JSON.stringify(tab));
  return tab;
}

/** Forgets the tab's key: what was sealed with it can no longer be read. */
export const forgetTab = () => sessionStorage.removeItem(SESSION);

/** Encrypts and decrypts with a tab's key. @param {Tab} tab */
export async function sealOf({ key }) {
  const imported = await crypto.subtle.importKey("raw", toBytes(key), AES, false, ["encrypt", "decrypt"]);
  return {
    /** @param {BufferSource} data @returns {Promise<Sealed>} */
    async seal(data) {
      const iv = crypto.getRandomValues(new Uint8Array(12));
      return { iv, data: await crypto.subtle.encrypt({ name: AES, iv }, imported, data) };
    },
    /** @param {Sealed} sealed */
    unseal: ({ iv, data }) => crypto.subtle.decrypt({ name: AES, iv: new Uint8Array(iv) }, imported, data),
  };
}
