// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IEntryPolicy} from "./interfaces/IEntryPolicy.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @title EntryPolicy
contract EntryPolicy is IEntryPolicy, Ownable2Step {
    /// @inheritdoc IEntryPolicy
    uint16 public constant FEE_BPS_MAX = 500;

    /// @inheritdoc IEntryPolicy
    uint64 public sequence;
    /// @dev The fee's two members share a slot, which every new request reads.
    address private _feeRecipient;
    uint16 private _feeBps;
    mapping(address token => bool) private _isAllowed;

    /// @param owner The timelock.
    constructor(address owner) Ownable(owner) {}

    /// @inheritdoc IEntryPolicy
    function setTokenAllowed(address token, bool allowed) external onlyOwner {
        _isAllowed[token] = allowed;
        emit TokenAllowed(++sequence, token, allowed);
    }

    /// @inheritdoc IEntryPolicy
    function setFee(uint16 feeBps, address feeRecipient) external onlyOwner {
        require(feeBps <= FEE_BPS_MAX, FeeTooHigh(feeBps, FEE_BPS_MAX));
        require(feeBps == 0 || feeRecipient != address(0), FeeRecipientMissing());
        _feeBps = feeBps;
        _feeRecipient = feeRecipient;
        emit FeeChanged(++sequence, feeBps, feeRecipient);
    }

    /// @inheritdoc IEntryPolicy
    function entryTerms(address token) external view returns (bool allowed, uint16 feeBps, address feeRecipient) {
        return (_isAllowed[token], _feeBps, _feeRecipient);
    }
}
