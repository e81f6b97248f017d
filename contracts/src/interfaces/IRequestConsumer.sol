// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title RequestConsumer: a contract that is told when its request is settled
/// @notice Named in `Request.callback`. The call comes once, after the money was credited, with `Request.callbackGas` gas.
/// Its failure is an event and changes nothing else; what it returns is not read. The escrow is locked during the call, so
/// a consumer that wants to ask again or to withdraw does it in a later transaction.
/// @dev A consumer has to check that the caller is the escrow.
interface IRequestConsumer {
    /// @notice The request is settled.
    /// @param requestId The request's id in the calling escrow.
    /// @param outcome 1 for an answer, 2 for a signed refusal (`IRequestEscrow.Outcome`).
    /// @param outputHash `keccak256` of the answer's canonical JSON.
    /// @param amount What the request cost, fee included, in the token's smallest unit.
    function onSettled(bytes32 requestId, uint8 outcome, bytes32 outputHash, uint128 amount) external;
}
