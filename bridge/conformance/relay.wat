;; A canister without a mind: it says what its controller has it say, byte for byte, and writes down
;; what it is told. With it a run plays peers and strangers on any replica.
;;
;;   call  (update)  u8 n, callee[n], u8 m, method[m], u64 cycles, argument: one bounded-wait call.
;;                   Replies with a u32: 0 if the call left, else the system's code.
;;   heard (query)   what arrived, entry by entry: u32 method (its place below), u32 n, caller[n],
;;                   u32 size of the argument, u32 k, the argument's first k bytes.
;;   clear (update)  forgets what arrived.
;;   spin  (update)  from now on what arrives is never answered: it calls itself again for ever.
(module
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg_copy (param i32 i32 i32)))
  (import "ic0" "msg_caller_size" (func $caller_size (result i32)))
  (import "ic0" "msg_caller_copy" (func $caller_copy (param i32 i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "canister_self_size" (func $self_size (result i32)))
  (import "ic0" "canister_self_copy" (func $self_copy (param i32 i32 i32)))
  (import "ic0" "is_controller" (func $is_controller (param i32 i32) (result i32)))
  (import "ic0" "call_new" (func $new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_data_append" (func $data (param i32 i32)))
  (import "ic0" "call_cycles_add" (func $cycles (param i64)))
  (import "ic0" "call_with_best_effort_response" (func $bounded (param i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory 128)
  (table 2 funcref)
  (elem (i32.const 0) $nothing $again)
  (global $spinning (mut i32) (i32.const 0))
  (global $end (mut i32) (i32.const 0x300000))
  (func $nothing (param i32))

  (func $again (param i32)
    (call $self_copy (i32.const 0) (i32.const 0) (call $self_size))
    (call $new
      (i32.const 0) (call $self_size) (i32.const 0x210) (i32.const 5)
      (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0))
    (drop (call $perform)))
  (data (i32.const 0x210) "again")
  (func (export "canister_update again") (call $reply))
  (func (export "canister_update spin")
    (call $check)
    (global.set $spinning (i32.const 1))
    (call $reply))

  ;; Whoever is no controller is sent away by a trap.
  (func $check
    (call $caller_copy (i32.const 0) (i32.const 0) (call $caller_size))
    (if (i32.eqz (call $is_controller (i32.const 0) (call $caller_size))) (then unreachable)))

  (func (export "canister_update call")
    (local $size i32) (local $method i32) (local $rest i32)
    (call $check)
    (local.set $size (call $arg_size))
    (if (i32.gt_u (local.get $size) (i32.const 0x2f0000)) (then unreachable))
    (call $arg_copy (i32.const 0x10000) (i32.const 0) (local.get $size))
    (local.set $method
      (i32.add (i32.const 0x10001) (i32.load8_u (i32.const 0x10000))))
    (local.set $rest
      (i32.add (i32.add (local.get $method) (i32.const 1)) (i32.load8_u (local.get $method))))
    (call $new
      (i32.const 0x10001) (i32.load8_u (i32.const 0x10000))
      (i32.add (local.get $method) (i32.const 1)) (i32.load8_u (local.get $method))
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $cycles (i64.load (local.get $rest)))
    (local.set $rest (i32.add (local.get $rest) (i32.const 8)))
    (call $data (local.get $rest)
      (i32.sub (i32.add (i32.const 0x10000) (local.get $size)) (local.get $rest)))
    (call $bounded (i32.const 300))
    (i32.store (i32.const 0) (call $perform))
    (call $append (i32.const 0) (i32.const 4))
    (call $reply))

  (func $put (param $value i32)
    (i32.store (global.get $end) (local.get $value))
    (global.set $end (i32.add (global.get $end) (i32.const 4))))

  (func $arrive (param $method i32)
    (local $kept i32)
    (local.set $kept (call $arg_size))
    (if (i32.gt_u (local.get $kept) (i32.const 4096)) (then (local.set $kept (i32.const 4096))))
    (if (i32.lt_u (global.get $end) (i32.const 0x4e0000)) (then
      (call $put (local.get $method))
      (call $put (call $caller_size))
      (call $caller_copy (global.get $end) (i32.const 0) (call $caller_size))
      (global.set $end (i32.add (global.get $end) (call $caller_size)))
      (call $put (call $arg_size))
      (call $put (local.get $kept))
      (call $arg_copy (global.get $end) (i32.const 0) (local.get $kept))
      (global.set $end (i32.add (global.get $end) (local.get $kept)))))
    (if (global.get $spinning)
      (then (call $again (i32.const 0)))
      (else (call $append (i32.const 0x200) (i32.const 6)) (call $reply))))
  (data (i32.const 0x200) "DIDL\00\00")

  (func (export "canister_update asyncFlow") (call $arrive (i32.const 0)))
  (func (export "canister_update com_asyncFlow_newMessage") (call $arrive (i32.const 1)))
  (func (export "canister_update com_asyncFlow_ack") (call $arrive (i32.const 2)))
  (func (export "canister_update com_asyncFlow_fin") (call $arrive (i32.const 3)))
  (func (export "canister_update com_asyncFlow_ackack") (call $arrive (i32.const 4)))
  (func (export "canister_update com_asyncFlow_finish") (call $arrive (i32.const 5)))
  (func (export "canister_update asyncFlow_batch") (call $arrive (i32.const 6)))

  (func (export "canister_query heard")
    (call $check)
    (call $append (i32.const 0x300000) (i32.sub (global.get $end) (i32.const 0x300000)))
    (call $reply))

  (func (export "canister_update clear")
    (call $check)
    (global.set $end (i32.const 0x300000))
    (call $reply)))
