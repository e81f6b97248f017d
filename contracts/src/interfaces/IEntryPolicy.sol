// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @title EntryPolicy: what may change, for new requests only
/// @notice Which tokens new requests and offers may use, and the protocol's fee. Owned by a timelock. Nothing here is read
/// again once a request is funded.
/// @dev Every event carries `sequence`, which grows by exactly one per event of this contract.
interface IEntryPolicy {
    /// @notice A token was allowed for new requests, or is not any more.
    event TokenAllowed(uint64 sequence, address indexed token, bool allowed);
    /// @notice The fee of new requests changed, or who gets it.
    event FeeChanged(uint64 sequence, uint16 feeBps, address feeRecipient);

    /// @notice Thrown when the fee is over `FEE_BPS_MAX`.
    error FeeTooHigh(uint256 feeBps, uint256 limit);
    /// @notice Thrown when a fee is set without a recipient.
    error FeeRecipientMissing();

    /// @notice Allows a token for new requests, or stops that. The zero address means the native coin.
    function setTokenAllowed(address token, bool allowed) external;

    /// @notice Sets the fee of new requests, in hundredths of a percent of the settled amount.
    function setFee(uint16 feeBps, address feeRecipient) external;

    /// @notice What a new request in `token` has to agree with.
    function entryTerms(address token) external view returns (bool allowed, uint16 feeBps, address feeRecipient);

    /// @notice The highest fee, in hundredths of a percent.
    function FEE_BPS_MAX() external view returns (uint16);

    /// @notice The number of events so far, which is the sequence number of the last one.
    function sequence() external view returns (uint64);
}
