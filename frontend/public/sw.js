// @ts-check
/**
 * Makes the page available offline: the check, the history and the privacy notice, in English and the
 * language in use. Requests go to the network first, so nobody online sees an old page. Requests to the API
 * are never handled, and no picture or answer is stored.
 */

const CACHE = "aiderm-page";
const SHELL = [
  "./",
  "manifest.json",
  "favicon.svg",
  "img/example-dermoscopic.svg",
  "img/example-ordinary.svg",
  "locales/en.json",
  "css/base.css",
  "css/page.css",
  "css/print.css",
  "js/main.js",
  "js/check.js",
  "js/i18n.js",
  "js/dom.js",
  "js/api.js",
  "js/service.js",
  "js/views.js",
  "js/worker.js",
  "js/intake/files.js",
  "js/intake/picker.js",
  "js/check/state.js",
  "js/check/adding.js",
  "js/check/samples.js",
  "js/check/sending.js",
  "js/check/view.js",
  "js/intake/bitmap.js",
  "js/intake/digest.js",
  "js/intake/types.js",
];
// Fetched only when a picture is chosen or another view is opened, so that a first visit loads little.
const REST = [
  "locales/answer/en.json",
  "css/picture.css",
  "css/result.css",
  "css/depth.css",
  "js/database.js",
  "js/csv.js",
  "js/served.js",
  "js/tables.js",
  "js/reader/form.js",
  "js/reader/mode.js",
  "js/reader/settings.js",
  "js/reader/store.js",
  "js/answer/abcde.js",
  "js/answer/after.js",
  "js/answer/brief.js",
  "js/answer/contours.js",
  "js/answer/depth.js",
  "js/answer/findings.js",
  "js/answer/frequency.js",
  "js/answer/heatmap.js",
  "js/answer/prevalence.js",
  "js/answer/problem-view.js",
  "js/answer/report.js",
  "js/answer/scale.js",
  "js/answer/sideways.js",
  "js/answer/spot.js",
  "js/answer/spot-add.js",
  "js/answer/verdict.js",
  "js/answer/words.js",
  "js/answer/zoom.js",
  "js/check/keys.js",
  "js/check/kept.js",
  "js/check/kept-item.js",
  "js/check/tab.js",
  "js/intake/looks.js",
  "js/intake/queue-list.js",
  "js/lesion/card.js",
  "js/lesion/correction.js",
  "js/lesion/drawing.js",
  "js/lesion/shape.js",
  "js/results/files.js",
  "js/results/table.js",
  "css/views.css",
  "js/history/keep.js",
  "js/history/store.js",
  "js/history/traced.js",
  "js/history/view.js",
  "js/history/edit.js",
  "js/history/fields.js",
  "js/history/compare.js",
  "js/history/findings.js",
  "js/history/measure.js",
  "js/history/overlay.js",
  "js/history/transfer.js",
  "js/history/zip.js",
  "js/views/privacy.js",
];
const PATIENCE_MS = 4_000; // on a very slow network, the cached copy is better than nothing

const worker = /** @type {any} */ (self);

worker.addEventListener("install", (/** @type {any} */ event) => {
  event.waitUntil(keep(SHELL).then(() => worker.skipWaiting()));
});

worker.addEventListener("message", (/** @type {any} */ event) => {
  if (event.data === "rest") event.waitUntil(keep(REST));
});

worker.addEventListener("activate", (/** @type {any} */ event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) =>
        Promise.all(
          names
            .filter((name) => name.startsWith("aiderm-") && name !== CACHE)
            .map((name) => caches.delete(name)),
        ),
      )
      .then(() => worker.clients.claim()),
  );
});

worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { request } = event;
  const scope = new URL(worker.registration.scope);
  const url = new URL(request.url);
  const path = url.pathname.slice(scope.pathname.length);
  if (request.method !== "GET" || url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname))
    return;
  const ofThePage =
    path === "" || /^(index\.html|manifest\.json|favicon\.svg|(css|js|img|locales)\/.+)$/.test(path);
  if (ofThePage)
    event.respondWith(
      fresh(request, path === "" || path === "index.html" ? new URL("./", scope).href : request.url),
    );
});

/** @param {string[]} paths */
async function keep(paths) {
  const cache = await caches.open(CACHE);
  // from the HTTP cache, as the page has just fetched them
  return cache.addAll(paths.map((path) => new Request(path, { cache: "force-cache" })));
}

/**
 * @param {Request} request
 * @param {string} key of the cache entry; the page has a single one for all queries
 */
async function fresh(request, key) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(key);
  const asked = fetch(request).then((response) => {
    if (response.ok && response.type === "basic") cache.put(key, response.clone());
    return response;
  });
  if (!kept) return asked;
  asked.catch(() => {});
  const late = new Promise((resolve) => setTimeout(() => resolve(kept), PATIENCE_MS));
  return Promise.race([asked.catch(() => kept), late]);
}
