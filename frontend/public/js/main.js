// @ts-check
/** Starts the page: language, check, views, service worker. */

import { startCheck } from "./check.js";
import { find } from "./dom.js";
import { preferredLanguage, t, useLanguage } from "./i18n.js";
import { DermService } from "./service.js";
import { startTranslation } from "./translation.js";
import { startViews } from "./views.js";
import { startWorker } from "./worker.js";

await useLanguage(preferredLanguage());
await startTranslation();

const service = find("derm-service", DermService);
const notice = find("#service-notice", HTMLElement);
service.addEventListener("state", (event) => {
  const { state, text } = /** @type {CustomEvent<{state: string, text: string}>} */ (event).detail;
  notice.hidden = state !== "unavailable";
  notice.textContent = state === "unavailable" ? `${text} ${t("service.meanwhile")}` : "";
});
service.refresh();
startCheck(service);
await startViews();
document.documentElement.dataset.ready = "";
performance.mark("usable");

setTimeout(startWorker, 300); // after everything that the first picture needs
