// @ts-check
/**
 * Registers the service worker, which makes the page available offline. Needs HTTPS or localhost.
 */

/**
 * @typedef {{createPolicy: (name: string, rules: {createScriptURL: (text: string) => string}) =>
 *   {createScriptURL: (text: string) => unknown}}} TrustedTypes
 * @typedef {Window & {trustedTypes?: TrustedTypes}} TrustedTypesWindow
 */

let asked = false;

export function startWorker() {
  if (!("serviceWorker" in navigator)) return;
  // The only place that makes a script URL from a string; Trusted Types allows only this policy.
  const { trustedTypes } = /** @type {TrustedTypesWindow} */ (window);
  const policy = trustedTypes?.createPolicy("aiderm-worker", { createScriptURL: (text) => text });
  const address = "./sw.js";
  navigator.serviceWorker
    .register(/** @type {string} */ (policy ? policy.createScriptURL(address) : address))
    .catch(() => {
      // for example in a private window: the page still works online
    });
}

/** Also caches what the first screen does not need; once per visit. */
export function keepTheRest() {
  if (asked || !("serviceWorker" in navigator)) return;
  asked = true;
  navigator.serviceWorker.ready.then(({ active }) => active?.postMessage("rest"));
}
