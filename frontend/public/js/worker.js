// @ts-check
/**
 * Registers the service worker, which keeps the page at hand without a network. Needs HTTPS, or this very
 * machine.
 */

/**
 * @typedef {{createPolicy: (name: string, rules: {createScriptURL: (text: string) => string}) =>
 *   {createScriptURL: (text: string) => unknown}}} TrustedTypes
 * @typedef {Window & {trustedTypes?: TrustedTypes}} TrustedTypesWindow
 */

let asked = false;

export function startWorker() {
  if (!("serviceWorker" in navigator)) return;
  // The one place where a script's address is made from a string; Trusted Types allow this policy alone.
  const { trustedTypes } = /** @type {TrustedTypesWindow} */ (window);
  const policy = trustedTypes?.createPolicy("aiderm-worker", { createScriptURL: (text) => text });
  const address = "./sw.js";
  navigator.serviceWorker
    .register(/** @type {string} */ (policy ? policy.createScriptURL(address) : address))
    .catch(() => {
      // as in a private window: the page works all the same, with a network
    });
}

/** Also keeps what the first visit did without; once a visit. */
export function keepTheRest() {
  if (asked || !("serviceWorker" in navigator)) return;
  asked = true;
  navigator.serviceWorker.ready.then(({ active }) => active?.postMessage("rest"));
}
