// Adds a bearer token to each request of a program that has no option for it.
import http from "node:http";
import { realpathSync } from "node:fs";
import { createRequire } from "node:module";

const bearer = `Bearer ${process.env.CONFORMANCE_TOKEN}`;
const undici = createRequire(realpathSync(process.argv[1]))("undici");
const dispatcher = undici.getGlobalDispatcher().compose((dispatch) => (options, handler) => {
  const headers = {};
  const given = options.headers ?? {};
  const pairs = Array.isArray(given)
    ? given.flatMap((_, at) => (at % 2 ? [] : [[given[at], given[at + 1]]]))
    : typeof given[Symbol.iterator] === "function" ? [...given] : Object.entries(given);
  for (const [name, value] of pairs) headers[String(name).toLowerCase()] = value;
  return dispatch({ ...options, headers: { ...headers, authorization: bearer } }, handler);
});
undici.setGlobalDispatcher(dispatcher);

const withBearer = (plain) => (input, init = {}) => {
  const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : {}));
  headers.set("authorization", bearer);
  return plain(input, { ...init, headers });
};
globalThis.fetch = withBearer(globalThis.fetch);

const plain = http.request;
http.request = (...given) => {
  const made = plain(...given);
  made.setHeader("authorization", bearer);
  return made;
};
