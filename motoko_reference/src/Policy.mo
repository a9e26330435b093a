/// The protocol's settings: defaults, changes, the check that they agree, and delay(n).
///
/// Durations are nanoseconds, sizes bytes, jitter parts per thousand.

import Nat32 "mo:core/Nat32";
import Nat64 "mo:core/Nat64";

module {
  public type AttachCycles = { new : Nat; ack : Nat; fin : Nat };

  public type Policy = {
    first_retry : Nat64;
    backoff : Nat32;
    max_delay : Nat64;
    jitter_permille : Nat32;
    attempts : Nat32;
    lifetime : Nat64;
    send_retry : Nat64;
    call_timeout : Nat64;
    call_margin : Nat64;
    in_flight : Nat32;
    linger : Nat64;
    retention : Nat64;
    horizon : Nat64;
    skew : Nat64;
    slack : Nat64;
    time_gap : Nat64;
    spread : Nat64;
    answer_within : Nat64;
    handler_attempts : Nat32;
    echo_min : Nat64;
    unknown_fins_per_second : Nat32;
    max_payload : Nat64;
    max_response : Nat64;
    response_room : Nat64;
    open_flows_per_peer : Nat32;
    open_flows : Nat32;
    tombstones_per_peer : Nat32;
    tombstones : Nat32;
    bytes_per_peer : Nat64;
    bytes : Nat64;
    outbox_messages : Nat32;
    outbox_bytes : Nat64;
    events : Nat32;
    min_cycles : Nat;
    attach_cycles : AttachCycles;
    admit_from : Nat64;
  };

  /// The same, each field optional: what an install argument or a controller gives
  /// (candid/settings.did).
  public type Settings = {
    first_retry : ?Nat64;
    backoff : ?Nat32;
    max_delay : ?Nat64;
    jitter_permille : ?Nat32;
    attempts : ?Nat32;
    lifetime : ?Nat64;
    send_retry : ?Nat64;
    call_timeout : ?Nat64;
    call_margin : ?Nat64;
    in_flight : ?Nat32;
    linger : ?Nat64;
    retention : ?Nat64;
    horizon : ?Nat64;
    skew : ?Nat64;
    slack : ?Nat64;
    time_gap : ?Nat64;
    spread : ?Nat64;
    answer_within : ?Nat64;
    handler_attempts : ?Nat32;
    echo_min : ?Nat64;
    unknown_fins_per_second : ?Nat32;
    max_payload : ?Nat64;
    max_response : ?Nat64;
    response_room : ?Nat64;
    open_flows_per_peer : ?Nat32;
    open_flows : ?Nat32;
    tombstones_per_peer : ?Nat32;
    tombstones : ?Nat32;
    bytes_per_peer : ?Nat64;
    bytes : ?Nat64;
    outbox_messages : ?Nat32;
    outbox_bytes : ?Nat64;
    events : ?Nat32;
    min_cycles : ?Nat;
    attach_cycles : ?AttachCycles;
    admit_from : ?Nat64;
  };

  public type Outcome<T> = { #ok : T; #err : Text };

  let second : Nat64 = 1_000_000_000;

  /// The defaults of docs/protocol.md.
  public let defaults : Policy = {
    first_retry = 330_000_000_000; // 330 seconds
    backoff = 2;
    max_delay = 3_600_000_000_000; // 1 hour
    jitter_permille = 100;
    attempts = 10;
    lifetime = 32_400_000_000_000; // 9 hours
    send_retry = 30_000_000_000; // 30 seconds
    call_timeout = 300_000_000_000; // 300 seconds
    call_margin = 30_000_000_000; // 30 seconds
    in_flight = 400;
    linger = 86_400_000_000_000; // 24 hours
    retention = 172_800_000_000_000; // 48 hours
    horizon = 172_800_000_000_000; // 48 hours
    skew = 600_000_000_000; // 10 minutes
    slack = 3_600_000_000_000; // 1 hour
    time_gap = 600_000_000_000; // 10 minutes
    spread = 60_000_000_000; // 60 seconds
    answer_within = 86_400_000_000_000; // 24 hours
    handler_attempts = 10;
    echo_min = 60_000_000_000; // 60 seconds
    unknown_fins_per_second = 10;
    max_payload = 1_900_000;
    max_response = 1_900_000;
    response_room = 8_192;
    open_flows_per_peer = 1_000;
    open_flows = 100_000;
    tombstones_per_peer = 100_000;
    tombstones = 1_000_000;
    bytes_per_peer = 67_108_864;
    bytes = 1_073_741_824;
    outbox_messages = 1_000;
    outbox_bytes = 16_777_216;
    events = 10_000;
    min_cycles = 0;
    attach_cycles = { new = 0; ack = 0; fin = 0 };
    admit_from = 0;
  };

  func or_<T>(given : ?T, present : T) : T {
    switch given { case (?value) value; case null present };
  };

  /// `present` with every given field replaced, or the reason why the result is bad.
  public func change(present : Policy, s : Settings, one_way_new : Bool) : Outcome<Policy> {
    let p : Policy = {
      first_retry = or_(s.first_retry, present.first_retry);
      backoff = or_(s.backoff, present.backoff);
      max_delay = or_(s.max_delay, present.max_delay);
      jitter_permille = or_(s.jitter_permille, present.jitter_permille);
      attempts = or_(s.attempts, present.attempts);
      lifetime = or_(s.lifetime, present.lifetime);
      send_retry = or_(s.send_retry, present.send_retry);
      call_timeout = or_(s.call_timeout, present.call_timeout);
      call_margin = or_(s.call_margin, present.call_margin);
      in_flight = or_(s.in_flight, present.in_flight);
      linger = or_(s.linger, present.linger);
      retention = or_(s.retention, present.retention);
      horizon = or_(s.horizon, present.horizon);
      skew = or_(s.skew, present.skew);
      slack = or_(s.slack, present.slack);
      time_gap = or_(s.time_gap, present.time_gap);
      spread = or_(s.spread, present.spread);
      answer_within = or_(s.answer_within, present.answer_within);
      handler_attempts = or_(s.handler_attempts, present.handler_attempts);
      echo_min = or_(s.echo_min, present.echo_min);
      unknown_fins_per_second = or_(s.unknown_fins_per_second, present.unknown_fins_per_second);
      max_payload = or_(s.max_payload, present.max_payload);
      max_response = or_(s.max_response, present.max_response);
      response_room = or_(s.response_room, present.response_room);
      open_flows_per_peer = or_(s.open_flows_per_peer, present.open_flows_per_peer);
      open_flows = or_(s.open_flows, present.open_flows);
      tombstones_per_peer = or_(s.tombstones_per_peer, present.tombstones_per_peer);
      tombstones = or_(s.tombstones, present.tombstones);
      bytes_per_peer = or_(s.bytes_per_peer, present.bytes_per_peer);
      bytes = or_(s.bytes, present.bytes);
      outbox_messages = or_(s.outbox_messages, present.outbox_messages);
      outbox_bytes = or_(s.outbox_bytes, present.outbox_bytes);
      events = or_(s.events, present.events);
      min_cycles = or_(s.min_cycles, present.min_cycles);
      attach_cycles = or_(s.attach_cycles, present.attach_cycles);
      admit_from = or_(s.admit_from, present.admit_from);
    };
    switch (flaw(p, one_way_new)) { case (?reason) #err reason; case null #ok p };
  };

  // A century in nanoseconds keeps every sum of two settings and a time within 64 bits.
  let longest : Nat64 = 3_155_760_000_000_000_000;

  /// Why these settings are bad, or null.
  public func flaw(p : Policy, one_way_new : Bool) : ?Text {
    let durations = [
      p.first_retry, p.max_delay, p.lifetime, p.send_retry, p.call_timeout, p.call_margin, p.linger,
      p.retention, p.horizon, p.skew, p.slack, p.time_gap, p.spread, p.answer_within, p.echo_min,
    ];
    for (duration in durations.values()) {
      if (duration > longest) return ?"a duration exceeds a century: durations are nanoseconds";
    };
    let checks : [(Bool, Text)] = [
      (p.first_retry > 0 and p.send_retry > 0 and p.time_gap > 1, "first_retry, send_retry and time_gap must be positive"),
      (p.backoff >= 1, "backoff must be at least 1"),
      (p.max_delay >= p.first_retry, "max_delay must be at least first_retry"),
      (p.jitter_permille <= 1_000, "jitter_permille must be at most 1000"),
      (p.attempts >= 1 and p.attempts <= 1_000, "attempts must be from 1 to 1000"),
      (p.handler_attempts >= 1, "handler_attempts must be at least 1"),
      (p.echo_min < p.first_retry, "echo_min must be below first_retry"),
      (p.call_timeout + p.call_margin <= p.first_retry, "call_timeout + call_margin must be at most first_retry"),
      (p.call_timeout <= 300 * second, "call_timeout must be at most 300 s"),
      (p.lifetime + p.slack < p.horizon, "lifetime + slack must be below horizon"),
      (p.lifetime <= p.linger, "lifetime must be at most linger"),
      (p.lifetime <= p.retention, "lifetime must be at most retention"),
      (p.answer_within < p.horizon, "answer_within must be below horizon"),
      (p.skew < p.horizon, "skew must be below horizon"),
      (p.in_flight >= 1 and p.in_flight <= 500, "in_flight must be from 1 to 500"),
      (p.max_payload <= 1_900_000 and p.max_response <= 1_900_000, "max_payload and max_response must be at most 1.9 MB"),
      (p.open_flows_per_peer <= p.open_flows, "open_flows_per_peer must be at most open_flows"),
      (p.tombstones_per_peer <= p.tombstones, "tombstones_per_peer must be at most tombstones"),
      (p.bytes_per_peer <= p.bytes, "bytes_per_peer must be at most bytes"),
      (p.min_cycles == 0 or not one_way_new, "min_cycles must be 0 where the method for NEW is one-way: it replies, and refunds, before its body runs"),
    ];
    for ((good, reason) in checks.values()) { if (not good) return ?reason };
    null;
  };

  /// delay(n) in nanoseconds, for n from 1; `u` in parts per million.
  public func delay(p : Policy, n : Nat32, u : Nat64) : Nat64 {
    var wait = p.first_retry;
    var i : Nat32 = 1;
    label grow while (i < n) {
      if (wait >= p.max_delay or p.backoff == 1) break grow;
      // Compared by division: the product may not fit.
      wait := if (wait > p.max_delay / Nat64.fromNat32(p.backoff)) p.max_delay else wait * Nat64.fromNat32(p.backoff);
      i += 1;
    };
    if (wait > p.max_delay) wait := p.max_delay;
    wait + part(wait, Nat64.min(u, maxJitter(p)));
  };

  /// The largest `u` that the jitter setting allows.
  public func maxJitter(p : Policy) : Nat64 { Nat64.fromNat32(p.jitter_permille) * 1_000 };

  /// The earliest of some times; null stands for never.
  public func earliest(times : [?Nat64]) : ?Nat64 {
    var first : ?Nat64 = null;
    for (time in times.values()) {
      switch (time, first) {
        case (?t, ?f) if (t < f) first := time;
        case (?_, null) first := time;
        case _ {};
      };
    };
    first;
  };

  /// So many millionths of a duration.
  public func part(duration : Nat64, millionths : Nat64) : Nat64 {
    Nat64.fromNat(Nat64.toNat(duration) * Nat64.toNat(millionths) / 1_000_000);
  };

  public func seconds(duration : Nat64) : Nat32 {
    Nat32.fromNat(Nat64.toNat((duration + second - 1) / second));
  };
};
