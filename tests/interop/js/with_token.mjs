// Preloaded with `node --import`: every request of the process carries HTTP_TOKEN. The conformance
// suite has no option for a header.
import { getGlobalDispatcher, setGlobalDispatcher } from "undici";

const authorization = `Bearer ${process.env.HTTP_TOKEN}`;

function withToken(headers) {
  return Array.isArray(headers)
    ? [...headers, "authorization", authorization]
    : { ...headers, authorization };
}

setGlobalDispatcher(
  getGlobalDispatcher().compose(
    (dispatch) => (options, handler) =>
      dispatch({ ...options, headers: withToken(options.headers) }, handler),
  ),
);
