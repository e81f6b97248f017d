// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {ISignatureTransfer} from "../../src/interfaces/ISignatureTransfer.sol";
import {vm} from "./Vm.sol";

/// @notice What these tests see of Permit2 beyond what the escrow calls.
interface IPermit2 is ISignatureTransfer {
    error InvalidContractSignature();
    error InvalidNonce();
    error InvalidSigner();
    error SignatureExpired(uint256 signatureDeadline);

    function DOMAIN_SEPARATOR() external view returns (bytes32);
}

/// @notice The real Permit2, at its address.
library Permit2 {
    address internal constant PLACE = 0x000000000022D473030F116dDEE9F6B43aC78BA3;

    function install() internal returns (address) {
        vm.etch(PLACE, vm.parseJsonBytes(vm.readFile("test/vectors/permit2.json"), ".bytecode"));
        return PLACE;
    }
}
