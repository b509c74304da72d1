// One WebSocket of the chat stream; docs/wire.md in the repository is the protocol.

const PROTOCOL = "fastswitch.v1.json";
const KEY_PROTOCOL = "fastswitch.key."; // a browser's WebSocket can send no header but this list

export class Connection {
  // whether a session is open on it
  opened = false;

  // onFrame(frame); onClose(code, established). Throws SyntaxError if the key cannot travel in a subprotocol.
  constructor(key, opening, onFrame, onClose) {
    const url = new URL("/v1/chat/stream", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(url, key === null ? [PROTOCOL] : [PROTOCOL, KEY_PROTOCOL + key]);
    let established = false;
    this.socket.onopen = () => {
      established = true;
      this.send("open", opening);
    };
    this.socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === "opened") this.opened = true;
      onFrame(frame);
    };
    this.socket.onclose = ({ code }) => onClose(code, established);
  }

  send(type, fields = {}) {
    this.socket.send(JSON.stringify({ type, ...fields }));
  }

  // Closes it without any further callback.
  drop() {
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}
