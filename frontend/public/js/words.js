// @ts-check
/** Asks for the page's words before anything else has arrived: on a slow phone a round trip earlier than the page's own script would. */

import { fetchMessages, preferredLanguage } from "./language.js";

const language = preferredLanguage();

/** The language that the page opens in, and its strings on their way. */
export const opening = { language, messages: fetchMessages(language) };
opening.messages.catch(() => {}); // whoever waits for them deals with it
