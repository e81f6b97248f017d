// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IRequestEscrow} from "../../src/interfaces/IRequestEscrow.sol";
import {RequestState, RequestStateLibrary} from "../../src/libraries/RequestState.sol";
import {SignatureProof} from "../../src/libraries/SignatureProof.sol";
import {SplitShares} from "../../src/libraries/SplitShares.sol";

/// @notice What halmos proves for every value, not for ten thousand of them. `check-halmos` runs these; forge does not.
contract StateSymbolic {
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @dev I3: a status survives its packing, and nothing of one status shows up as another's.
    function check_I3_stateRoundTrip(uint40 settleAt, bytes32 commitment, bytes32 other, uint128 amount) public pure {
        RequestState delivered = RequestStateLibrary.delivered(settleAt, commitment);
        assert(delivered.status() == IRequestEscrow.Status.Delivered);
        assert(delivered.settleAt() == settleAt);
        assert(delivered.commitsTo(commitment));
        assert(!delivered.commitsTo(other) || other >> 48 == commitment >> 48);
        assert(delivered.settledAmount() == 0);
        RequestState settled = RequestStateLibrary.settled(amount);
        assert(settled.status() == IRequestEscrow.Status.Settled);
        assert(settled.settledAmount() == amount);
        assert(!settled.isNone() && !delivered.isNone());
        assert(RequestStateLibrary.funded().status() == IRequestEscrow.Status.Funded);
        assert(RequestStateLibrary.refunded().status() == IRequestEscrow.Status.Refunded);
        assert(RequestStateLibrary.slashed().status() == IRequestEscrow.Status.Slashed);
        assert(RequestStateLibrary.funded().settledAmount() == 0);
        assert(RequestStateLibrary.refunded().settledAmount() == 0);
        assert(RequestStateLibrary.slashed().settledAmount() == 0);
    }

    /// @dev I5: high `s`, another `v` and the zero signer are refused for every digest and `r`.
    function check_I5_malleableSignatureIsRefused(address signer, bytes32 digest, bytes32 r, bytes32 s, uint8 v)
        public
        view
    {
        bool valid = this.isValid(signer, digest, abi.encodePacked(r, s, v));
        if (uint256(s) > HALF_ORDER || (v != 27 && v != 28) || signer == address(0)) assert(!valid);
    }

    function isValid(address signer, bytes32 digest, bytes calldata signature) external pure returns (bool) {
        return SignatureProof.isValidEcdsa(signer, digest, signature);
    }

    /// @dev I8: the fee is the largest number of units that is not over its part. Multiplication is hard for solvers, so
    /// the amounts have 16 bits here; the fuzz tests take the rest.
    function check_I8_feeIsExact(uint16 amount, uint16 feeBps) public pure {
        if (feeBps > 500) return;
        uint256 fee = SplitShares.fee(amount, feeBps);
        assert(fee <= amount);
        assert(fee * 10_000 <= uint256(amount) * feeBps);
        assert((fee + 1) * 10_000 > uint256(amount) * feeBps);
    }

    /// @dev I8: a split of three pays nobody more than the exact share, and fewer units than there are payees stay behind.
    /// With given allocations, because quotients of two unknowns take a solver hours; the fuzz tests vary them.
    function check_I8_splitIsExact(uint16 total) public view {
        IRequestEscrow.Split memory split;
        split.recipients = new address[](3);
        split.allocations = new uint256[](3);
        (split.allocations[0], split.allocations[1], split.allocations[2]) = (7, 2, 1);
        split.totalAllocation = 10;
        for (uint256 i = 0; i < 3; ++i) {
            split.recipients[i] = address(uint160(i + 1));
        }
        uint256 paid = 0;
        for (uint256 i = 0; i < 3; ++i) {
            uint256 share = this.entitlement(split, total, split.recipients[i]);
            assert(share * 10 <= uint256(total) * split.allocations[i]);
            assert((share + 1) * 10 > uint256(total) * split.allocations[i]);
            paid += share;
        }
        assert(paid <= total && total - paid < 3);
        assert(this.entitlement(split, total, address(4)) == 0);
    }

    function entitlement(IRequestEscrow.Split calldata split, uint256 total, address account)
        external
        pure
        returns (uint256)
    {
        return SplitShares.entitlement(split, total, account);
    }
}
