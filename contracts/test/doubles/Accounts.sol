// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @notice An ERC-1271 account with one key, which can be switched off.
contract ContractSigner {
    address public key;
    bool public refuses;

    constructor(address key_) {
        key = key_;
    }

    function setRefuses(bool value) external {
        refuses = value;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        (address recovered,,) = ECDSA.tryRecover(digest, signature);
        return !refuses && recovered == key ? this.isValidSignature.selector : bytes4(0xffffffff);
    }

    function execute(address target, bytes calldata data) external returns (bytes memory) {
        (bool success, bytes memory answer) = target.call(data);
        require(success, "execute");
        return answer;
    }

    receive() external payable {}
}

/// @notice Answers an ERC-1271 question in every wrong way.
contract HostileSigner {
    enum Way {
        ShortAnswer,
        HugeAnswer,
        BurnGas,
        Revert,
        OtherWord
    }

    Way public way;

    constructor(Way way_) {
        way = way_;
    }

    fallback() external {
        if (way == Way.ShortAnswer) {
            assembly ("memory-safe") {
                mstore(0, 0x1626ba7e00000000000000000000000000000000000000000000000000000000)
                return(0, 4)
            }
        }
        if (way == Way.HugeAnswer) {
            assembly ("memory-safe") {
                return(0, 30000)
            }
        }
        if (way == Way.BurnGas) {
            while (true) {}
        }
        if (way == Way.Revert) revert("no");
        assembly ("memory-safe") {
            // The selector is right, the rest of the word is not zero.
            mstore(0, 0x1626ba7e00000000000000000000000000000000000000000000000000000001)
            return(0, 32)
        }
    }
}

/// @notice Calls something whenever it receives native coin, and notes how that went; can refuse it, or burn gas.
contract Receiver {
    address public target;
    bytes public data;
    bool public refuses;
    bool public succeeded;
    bytes public answer;
    uint256 public calls;

    function set(address target_, bytes calldata data_) external {
        target = target_;
        data = data_;
    }

    function setRefuses(bool value) external {
        refuses = value;
    }

    receive() external payable {
        require(!refuses, "refused");
        ++calls;
        if (target != address(0)) (succeeded, answer) = target.call(data);
    }
}

/// @notice A multisig as far as the deployment looks at it.
contract TestMultisig {
    uint256 public getThreshold;

    constructor(uint256 threshold) {
        getThreshold = threshold;
    }

    function execute(address target, bytes calldata data) external {
        (bool success,) = target.call(data);
        require(success, "execute");
    }
}
