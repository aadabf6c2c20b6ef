"""Stand-ins for four batch services, after their published schemas, over real HTTP. No service was asked."""

import collections
import email
import json
import random
import re
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMES = ("openai", "anthropic", "mistral", "gemini")


class BatchServer:
    """
    Answers "positive" to texts that contain "good" and "negative" to others. `with BatchServer() as server` runs it on a free
    port of the loopback; each service is at `server.at(name)`.

    Args:
        polls: How often it must be asked how far a batch is before it has ended.
        key: The key without which everything is refused.
    """

    def __init__(self, polls=1, key="a-secret-key-0"):
        self.polls, self.key = polls, key
        self.fates = {}  # by a word of the text: failed, expired, missing, twice, torn
        self.extra = 0  # answers to what was not asked
        self.shuffled = False
        self.never = False  # batches that never end
        self.faults = collections.deque()  # for the next requests: a function of the handler that answers, or nothing
        self.lose = 0  # so many submissions are taken, and the connection closed without an answer
        self.dead = 0  # so many are not taken, and the connection closed
        self.lists = True
        self.fail_all = None  # why batches fail whole
        self.room = None  # requests that may be under way at OpenAI; a batch beyond fails
        self.files, self.batches, self.calls, self.asked = {}, {}, [], collections.Counter()
        self.lock, self.long_waited = threading.Lock(), threading.Event()

    def __enter__(self):
        stand_in = self

        class Handler(_Handler):
            server_state = stand_in

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()

    def at(self, service):
        return self.url + ("" if service in ("anthropic", "gemini") else "/v1")

    def begin(self, service, requests, name=None, model=None):
        """Take a batch of (id, text) and give its number."""
        number = f"{service}-{len(self.batches) + 1}"
        under_way = sum(len(one["requests"]) for one in self.batches.values() if not self.ended(one))
        self.batches[number] = {
            "service": service, "requests": requests, "name": name, "model": model, "polls": 0, "made": time.time(),
            "cancelled": False, "expired": False,
            "full": self.room is not None and under_way + len(requests) > self.room,
        }  # fmt: skip
        for _, text in requests:
            self.asked[text] += 1
        return number

    def ended(self, batch):
        return batch["cancelled"] or batch["full"] or (not self.never and batch["polls"] >= self.polls)

    def poll(self, batch):
        batch["polls"] += 1
        if batch["polls"] >= 20:
            self.long_waited.set()
        return self.ended(batch)

    def fate(self, batch, text):
        if batch["cancelled"]:
            return "cancelled"
        return next((fate for word, fate in self.fates.items() if word in text), "ok")

    def answers(self, batch):
        """(id, label, fate, tokens in) of each answer, in the order of the service."""
        out = []
        for name, text in batch["requests"]:
            label = "positive" if "good" in text else "negative"
            fate = self.fate(batch, text)
            if fate == "twice":
                out += [(name, label, "ok", 10), (name, "negative" if label == "positive" else "positive", "ok", 10)]
            elif fate != "missing":
                out.append((name, label, fate, len(text.split())))
        out += [(f"{k:064x}", "positive", "ok", 1) for k in range(self.extra)]
        if self.shuffled:
            random.Random(0).shuffle(out)
        return out


class _Handler(BaseHTTPRequestHandler):
    server_state = None
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one piece: no waiting for acknowledgements

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._serve("GET")

    def do_POST(self):
        self._serve("POST")

    def _serve(self, method):
        state = self.server_state
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        self.query = dict(pair.split("=", 1) for pair in query.split("&") if pair)
        with state.lock:
            state.calls.append(f"{method} {path}")
            given = {
                (self.headers.get("Authorization") or "").removeprefix("Bearer "),
                self.headers.get("x-api-key"),
                self.headers.get("x-goog-api-key"),
            }
            if state.key not in given:
                return self.say({"error": {"message": f"Incorrect API key provided: {sorted(map(str, given))}"}}, 401)
            if state.faults:
                fault = state.faults.popleft()
                if fault is not None:
                    return fault(self)
            for wanted, pattern, action in _ROUTES:
                found = re.fullmatch(pattern, path)
                if wanted == method and found:
                    return action(self, *found.groups())
            return self.say({"error": {"message": "no such path"}}, 404)

    def say(self, value, status=200, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, one in {"Content-Type": "application/json", "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(one))
        self.end_headers()
        self.wfile.write(body)

    def submitted(self, value, service, *arguments):
        """Take a batch and answer, unless this submission is to be lost."""
        state = self.server_state
        if state.dead:
            state.dead -= 1
            self.connection.close()
            self.close_connection = True
            return None
        number = state.begin(service, *arguments)
        if state.lose:
            state.lose -= 1
            self.connection.shutdown(2)
            self.close_connection = True
            return None
        return self.say(value(number, state.batches[number]))

    # OpenAI's and Mistral's files

    def upload(self):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in email.message_from_bytes(head + self.body).get_payload()
        }
        if parts.get("purpose") != b"batch" or not parts.get("file"):
            return self.say({"error": {"message": "file and purpose=batch are needed"}}, 400)
        number = f"file-{len(self.server_state.files) + 1}"
        self.server_state.files[number] = [json.loads(line) for line in parts["file"].splitlines()]
        return self.say({"id": number, "object": "file", "purpose": "batch"})

    def content(self, number):
        batch = self.server_state.batches[number.partition("_")[0]]
        lines = []
        for name, label, fate, read in self.server_state.answers(batch):
            failed = fate in ("failed", "expired", "cancelled")
            if number.endswith("_errors") != failed:
                continue
            if fate == "torn":
                lines.append(b'{"custom_id": "' + name.encode() + b'", "respo')
            elif fate == "expired":
                error = {"code": "batch_expired", "message": "too late"}
                lines.append(json.dumps({"custom_id": name, "response": None, "error": error}).encode())
            elif failed:
                body = {"error": {"code": "server_error" if fate == "failed" else "batch_cancelled"}}
                said = {"status_code": 500, "body": body}
                lines.append(json.dumps({"custom_id": name, "response": said, "error": None}).encode())
            else:
                choice = {"index": 0, "message": {"role": "assistant", "content": label}, "finish_reason": "stop"}
                body = {"choices": [choice], "usage": {"prompt_tokens": read, "completion_tokens": 1}}
                said = {"status_code": 200, "request_id": "r", "body": body}
                lines.append(json.dumps({"id": "x", "custom_id": name, "response": said, "error": None}).encode())
        self.say(b"\n".join(lines) + b"\n" * bool(lines))

    # OpenAI

    def openai_create(self):
        asked = json.loads(self.body)
        if asked.get("completion_window") != "24h" or asked.get("endpoint") != "/v1/chat/completions":
            return self.say({"error": {"message": "completion_window and endpoint are needed"}}, 400)
        lines = self.server_state.files[asked["input_file_id"]]
        assert all({*line} == {"custom_id", "method", "url", "body"} and line["body"]["model"] for line in lines)
        requests = [(line["custom_id"], line["body"]["messages"][-1]["content"]) for line in lines]
        return self.submitted(self.openai_batch, "openai", requests, asked["metadata"].get("hf_llambert"))

    def openai_batch(self, number, batch):
        state = self.server_state
        ended, begun = state.ended(batch), batch["polls"] > 1
        fail = "token_limit_exceeded" if batch["full"] else state.fail_all
        answers = state.answers(batch) if ended and not fail else []
        failed = [one for one in answers if one[2] in ("failed", "expired", "cancelled")]
        status = "in_progress" if begun else "validating"
        if ended:
            status = "expired" if any(one[2] == "expired" for one in answers) else "completed"
            status = "cancelled" if batch["cancelled"] else "failed" if fail else status
        out = {
            "id": number, "object": "batch", "status": status, "created_at": int(batch["made"]), "output_file_id": None,
            "error_file_id": None, "metadata": {"hf_llambert": batch["name"]} if batch["name"] else None, "errors": None,
            "request_counts": {
                "total": len(batch["requests"]), "completed": min(batch["polls"] - 1, len(batch["requests"])), "failed": 0,
            },
        }  # fmt: skip
        if ended and fail:
            out["errors"] = {"object": "list", "data": [{"code": fail, "message": "see there"}]}
        if len(failed) < len(answers):
            out["output_file_id"] = f"{number}_output"
        if failed:
            out["error_file_id"] = f"{number}_errors"
        return out

    def openai_get(self, number):
        batch = self.server_state.batches.get(number)
        if batch is None:
            return self.say({"error": {"message": "no such batch"}}, 404)
        self.server_state.poll(batch)
        return self.say(self.openai_batch(number, batch))

    def openai_list(self):
        if not self.server_state.lists:
            return self.say({"error": {"message": "no such path"}}, 404)
        newest = [(n, b) for n, b in reversed(self.server_state.batches.items()) if b["service"] == "openai"]
        after = [n for n, _ in newest].index(self.query["after"]) + 1 if "after" in self.query else 0
        page = newest[after : after + 2]
        found = [self.openai_batch(*one) for one in page]
        return self.say({"object": "list", "data": found, "has_more": after + 2 < len(newest)})

    def openai_cancel(self, number):
        if self.server_state.ended(self.server_state.batches[number]):
            return self.say({"error": {"message": "Cannot cancel a batch that has ended"}}, 409)
        self.server_state.batches[number]["cancelled"] = True
        return self.say(self.openai_batch(number, self.server_state.batches[number]))

    # Mistral

    def mistral_create(self):
        asked = json.loads(self.body)
        if not asked.get("model") or asked.get("endpoint") != "/v1/chat/completions" or not asked.get("input_files"):
            return self.say({"detail": "model, endpoint and input_files are needed"}, 422)
        lines = self.server_state.files[asked["input_files"][0]]
        assert all({*line} == {"custom_id", "body"} for line in lines)
        requests = [(line["custom_id"], line["body"]["messages"][-1]["content"]) for line in lines]
        return self.submitted(self.mistral_job, "mistral", requests, asked["metadata"]["hf_llambert"])

    def mistral_job(self, number, batch):
        said = self.openai_batch(number, batch)
        words = {"validating": "QUEUED", "in_progress": "RUNNING", "completed": "SUCCESS", "cancelled": "CANCELLED"}
        words |= {"failed": "FAILED", "expired": "TIMEOUT_EXCEEDED"}
        errors = [{"message": self.server_state.fail_all, "count": 1}] if said["errors"] else []
        return {
            "id": number, "object": "batch", "status": words[said["status"]], "metadata": said["metadata"] or {},
            "output_file": said["output_file_id"], "error_file": said["error_file_id"], "errors": errors,
            "created_at": said["created_at"], "total_requests": len(batch["requests"]), "completed_requests": 0,
        }  # fmt: skip

    def mistral_get(self, number):
        batch = self.server_state.batches[number]
        self.server_state.poll(batch)
        return self.say(self.mistral_job(number, batch))

    def mistral_list(self):
        jobs = [self.mistral_job(n, b) for n, b in self.server_state.batches.items() if b["service"] == "mistral"]
        page, size = int(self.query["page"]), int(self.query["page_size"])
        return self.say({"data": jobs[page * size : (page + 1) * size], "object": "list", "total": len(jobs)})

    def mistral_cancel(self, number):
        self.server_state.batches[number]["cancelled"] = True
        return self.say(self.mistral_job(number, self.server_state.batches[number]))

    # Anthropic

    def anthropic_create(self):
        asked = json.loads(self.body)
        for one in asked["requests"]:
            fine = re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one["custom_id"]) and one["params"]["max_tokens"] > 0
            if not fine or self.headers.get("anthropic-version") != "2023-06-01" or "seed" in one["params"]:
                return self.say({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}, 400)
            assert all(turn["role"] in ("user", "assistant") for turn in one["params"]["messages"])
        requests = [(one["custom_id"], one["params"]["messages"][-1]["content"]) for one in asked["requests"]]
        return self.submitted(self.anthropic_batch, "anthropic", requests)

    def anthropic_batch(self, number, batch):
        state, ended = self.server_state, self.server_state.ended(batch)
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if not ended:
            counts["processing"] = len(batch["requests"])
        words = {"failed": "errored", "cancelled": "canceled", "expired": "expired"}
        for one in batch["requests"] if ended else ():
            counts[words.get(state.fate(batch, one[1]), "succeeded")] += 1
        made = datetime.fromtimestamp(batch["made"], timezone.utc).isoformat().replace("+00:00", "Z")
        return {
            "id": number, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts, "created_at": made,
            "results_url": f"{state.url}/v1/messages/batches/{number}/results" if ended else None,
        }  # fmt: skip

    def anthropic_get(self, number):
        batch = self.server_state.batches[number]
        self.server_state.poll(batch)
        return self.say(self.anthropic_batch(number, batch))

    def anthropic_list(self):
        newest = [(n, b) for n, b in reversed(self.server_state.batches.items()) if b["service"] == "anthropic"]
        return self.say({"data": [self.anthropic_batch(*one) for one in newest], "has_more": False})

    def anthropic_results(self, number):
        lines = []
        for name, label, fate, read in self.server_state.answers(self.server_state.batches[number]):
            result = {"type": {"cancelled": "canceled"}.get(fate, fate)}
            if fate == "failed":
                error = {"type": "error", "error": {"type": "overloaded_error", "message": "too much"}}
                result = {"type": "errored", "error": error}
            elif fate in ("ok", "torn"):
                usage = {"input_tokens": read - 2, "cache_read_input_tokens": 2, "output_tokens": 1}
                content = [{"type": "text", "text": label}]
                message = {"role": "assistant", "content": content, "stop_reason": "end_turn", "usage": usage}
                result = {"type": "succeeded", "message": message}
            line = json.dumps({"custom_id": name, "result": result}).encode()
            lines.append(line[:-20] if fate == "torn" else line)
        return self.say(b"\n".join(lines))

    def anthropic_cancel(self, number):
        self.server_state.batches[number]["cancelled"] = True
        return self.say(self.anthropic_batch(number, self.server_state.batches[number]))

    # Gemini

    def gemini_start(self):
        if self.headers.get("X-Goog-Upload-Command") != "start" or "file" not in json.loads(self.body):
            return self.say({"error": {"code": 400, "message": "start"}}, 400)
        return self.say({}, **{"X-Goog-Upload-URL": f"{self.server_state.url}/upload/here"})

    def gemini_upload(self):
        if self.headers.get("X-Goog-Upload-Command") != "upload, finalize":
            return self.say({"error": {"code": 400, "message": "finalize"}}, 400)
        number = f"files/f{len(self.server_state.files) + 1}"
        self.server_state.files[number] = [json.loads(line) for line in self.body.splitlines()]
        return self.say({"file": {"name": number, "state": "ACTIVE"}})

    def gemini_create(self, model):
        asked = json.loads(self.body)["batch"]
        lines = self.server_state.files[asked["input_config"]["file_name"]]
        for line in lines:
            assert {*line} == {"key", "request"}
            assert {*line["request"]} <= {"contents", "generationConfig", "systemInstruction"}
        requests = [(line["key"], line["request"]["contents"][-1]["parts"][0]["text"]) for line in lines]
        return self.submitted(self.gemini_batch, "gemini", requests, asked["display_name"], model)

    def gemini_batch(self, number, batch):
        state, ended = self.server_state, self.server_state.ended(batch)
        word = "SUCCEEDED" if ended else "RUNNING" if batch["polls"] > 1 else "PENDING"
        word = "CANCELLED" if batch["cancelled"] else "FAILED" if ended and state.fail_all else word
        out = {
            "name": f"batches/{number}",
            "metadata": {
                "displayName": batch["name"], "state": f"BATCH_STATE_{word}",
                "batchStats": {"requestCount": str(len(batch["requests"]))},
            },
        }  # fmt: skip
        if ended:
            out["done"] = True
        if word == "SUCCEEDED":
            place = {"responsesFile": f"files/batch-{number}"}
            if number.endswith("1"):
                out["response"] = place
            else:
                out["metadata"]["output"] = place
        elif ended and state.fail_all:
            out["error"] = {"code": 3, "message": state.fail_all}
        return out

    def gemini_get(self, number):
        batch = self.server_state.batches[number]
        self.server_state.poll(batch)
        return self.say(self.gemini_batch(number, batch))

    def gemini_list(self):
        found = [self.gemini_batch(n, b) for n, b in self.server_state.batches.items() if b["service"] == "gemini"]
        start = int(self.query.get("pageToken", 0))
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(found) else {}
        return self.say({"operations": found[start : start + 2], **more})

    def gemini_results(self, number):
        if self.query.get("alt") != "media":
            return self.say({"error": {"code": 400, "message": "alt=media"}}, 400)
        lines = []
        for name, label, fate, read in self.server_state.answers(self.server_state.batches[number]):
            line = {"key": name}
            if fate in ("failed", "expired"):
                line["error"] = {"code": 14, "status": "UNAVAILABLE" if fate == "failed" else "DEADLINE_EXCEEDED"}
            else:
                parts = [{"text": "hm, good or bad", "thought": True}, {"text": label}]
                candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}
                usage = {"promptTokenCount": read, "candidatesTokenCount": 1}
                line["response"] = {"candidates": [candidate], "usageMetadata": usage}
            text = json.dumps(line).encode()
            lines.append(text[:-20] if fate == "torn" else text)
        return self.say(b"\n".join(lines))

    def gemini_cancel(self, number):
        self.server_state.batches[number]["cancelled"] = True
        return self.say({})


_ID = r"([\w-]+)"
_ROUTES = (
    ("POST", "/v1/files", _Handler.upload),
    ("GET", r"/v1/files/([\w-]+)/content", _Handler.content),
    ("POST", "/v1/batches", _Handler.openai_create),
    ("GET", "/v1/batches", _Handler.openai_list),
    ("GET", f"/v1/batches/{_ID}", _Handler.openai_get),
    ("POST", f"/v1/batches/{_ID}/cancel", _Handler.openai_cancel),
    ("POST", "/v1/batch/jobs", _Handler.mistral_create),
    ("GET", "/v1/batch/jobs", _Handler.mistral_list),
    ("GET", f"/v1/batch/jobs/{_ID}", _Handler.mistral_get),
    ("POST", f"/v1/batch/jobs/{_ID}/cancel", _Handler.mistral_cancel),
    ("POST", "/v1/messages/batches", _Handler.anthropic_create),
    ("GET", "/v1/messages/batches", _Handler.anthropic_list),
    ("GET", f"/v1/messages/batches/{_ID}", _Handler.anthropic_get),
    ("GET", f"/v1/messages/batches/{_ID}/results", _Handler.anthropic_results),
    ("POST", f"/v1/messages/batches/{_ID}/cancel", _Handler.anthropic_cancel),
    ("POST", "/upload/v1beta/files", _Handler.gemini_start),
    ("POST", "/upload/here", _Handler.gemini_upload),
    ("POST", r"/v1beta/models/([\w.-]+):batchGenerateContent", _Handler.gemini_create),
    ("GET", "/v1beta/batches", _Handler.gemini_list),
    ("GET", f"/v1beta/batches/{_ID}", _Handler.gemini_get),
    ("GET", f"/download/v1beta/files/batch-{_ID}:download", _Handler.gemini_results),
    ("POST", f"/v1beta/batches/{_ID}:cancel", _Handler.gemini_cancel),
)


if __name__ == "__main__":  # to try a command by hand
    import sys

    with BatchServer(polls=int(sys.argv[1]), key="a-secret-key-0") as server:
        print(server.url, flush=True)
        while True:
            time.sleep(1)
            print(sum(server.asked.values()), max(server.asked.values(), default=0), len(server.batches), flush=True)
