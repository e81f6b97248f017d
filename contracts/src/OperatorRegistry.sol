// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IOperatorRegistry} from "./interfaces/IOperatorRegistry.sol";
import {MemberOrder} from "./libraries/MemberOrder.sol";
import {Payment} from "./libraries/Payment.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title OperatorRegistry
/// @dev Deployed by the escrow's constructor, so that each knows the other without a set-up step that somebody could miss
/// or abuse. It has no owner.
contract OperatorRegistry is IOperatorRegistry {
    using SafeERC20 for IERC20;

    /* TYPES */

    struct OperatorSetState {
        address admin;
        uint64 epoch;
        uint8 threshold;
        address pendingAdmin;
        address bondToken;
        address referee;
        uint128 bond;
        uint64 pendingActiveAt;
        uint8 pendingThreshold;
        bytes32 epochHash;
        address[] operators;
        address[] signers;
        address[] pendingOperators;
    }

    /// @dev `joined` stays false for a member that was slashed, also while it is still in the present epoch. `sinceEpoch` is
    /// the set's epoch when it joined: it can be a member of later ones.
    struct Membership {
        uint128 bond;
        uint64 releaseAt;
        bool joined;
        uint64 sinceEpoch;
    }

    /* CONSTANTS */

    /// @inheritdoc IOperatorRegistry
    uint64 public constant SIGNER_DELAY = 1 days;
    /// @inheritdoc IOperatorRegistry
    uint64 public constant WITHDRAWAL_DELAY = 2 days;
    /// @inheritdoc IOperatorRegistry
    uint64 public constant EPOCH_DELAY = 1 days;
    /// @inheritdoc IOperatorRegistry
    uint64 public constant UNBONDING_DELAY = 14 days;
    /// @inheritdoc IOperatorRegistry
    uint256 public constant SET_MEMBERS_MAX = 32;
    /// @inheritdoc IOperatorRegistry
    address public constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;

    /// @inheritdoc IOperatorRegistry
    address public immutable escrow;

    /* STORAGE */

    /// @inheritdoc IOperatorRegistry
    uint64 public sequence;
    uint64 private _setCount;
    bool private transient _entered;
    mapping(address owner => Operator) private _operators;
    /// @inheritdoc IOperatorRegistry
    mapping(address signer => address owner) public ownerOfSigner;
    /// @inheritdoc IOperatorRegistry
    mapping(address signer => bool) public isRevoked;
    mapping(uint64 setId => OperatorSetState) private _sets;
    mapping(uint64 setId => mapping(address owner => Membership)) private _members;
    mapping(bytes32 requestId => bool) private _slashed;
    /// @inheritdoc IOperatorRegistry
    mapping(address account => mapping(address token => uint256)) public creditOf;

    modifier nonReentrant() {
        require(!_entered, Reentered());
        _entered = true;
        _;
        _entered = false;
    }

    constructor() {
        escrow = msg.sender;
    }

    /* OPERATORS */

    /// @inheritdoc IOperatorRegistry
    function register(address signer, address transmitter, address withdrawal) external {
        require(_operators[msg.sender].withdrawal == address(0), AlreadyRegistered(msg.sender));
        require(signer != address(0), ZeroAddress("signer"));
        require(transmitter != address(0), ZeroAddress("transmitter"));
        require(withdrawal != address(0), ZeroAddress("withdrawal"));
        require(signer != msg.sender && signer != transmitter && signer != withdrawal, RolesNotSeparate(signer));
        require(transmitter != msg.sender && transmitter != withdrawal, RolesNotSeparate(transmitter));
        require(withdrawal != msg.sender, RolesNotSeparate(withdrawal));
        _takeSigner(signer);

        Operator storage operator = _operators[msg.sender];
        operator.signer = signer;
        operator.transmitter = transmitter;
        operator.withdrawal = withdrawal;
        emit OperatorRegistered(++sequence, msg.sender, signer, transmitter, withdrawal);
    }

    /// @inheritdoc IOperatorRegistry
    function proposeSigner(address signer) external {
        Operator storage operator = _registered(msg.sender);
        require(signer != address(0), ZeroAddress("signer"));
        require(
            signer != msg.sender && signer != operator.transmitter && signer != operator.withdrawal
                && signer != operator.pendingWithdrawal,
            RolesNotSeparate(signer)
        );
        require(signer != operator.signer, SignerTaken(signer));
        _takeSigner(signer);

        uint64 activeAt = uint64(block.timestamp) + SIGNER_DELAY;
        operator.pendingSigner = signer;
        operator.signerActiveAt = activeAt;
        emit SignerProposed(++sequence, msg.sender, signer, activeAt);
    }

    /// @inheritdoc IOperatorRegistry
    function activateSigner(address owner) external {
        Operator storage operator = _operators[owner];
        address signer = operator.pendingSigner;
        require(signer != address(0), NothingPending());
        require(block.timestamp >= operator.signerActiveAt, TooEarly(operator.signerActiveAt));

        operator.signer = signer;
        operator.pendingSigner = address(0);
        operator.signerActiveAt = 0;
        emit SignerActivated(++sequence, owner, signer);
    }

    /// @inheritdoc IOperatorRegistry
    function revokeSigner(address signer) external {
        require(ownerOfSigner[signer] == msg.sender && !isRevoked[signer], NotOwnSigner(signer, msg.sender));
        _revoke(msg.sender, signer);
    }

    /// @inheritdoc IOperatorRegistry
    function setTransmitter(address transmitter) external {
        Operator storage operator = _registered(msg.sender);
        require(transmitter != address(0), ZeroAddress("transmitter"));
        // Former signers too: each of them may still count in an epoch of the past.
        require(
            transmitter != msg.sender && ownerOfSigner[transmitter] != msg.sender && transmitter != operator.withdrawal
                && transmitter != operator.pendingWithdrawal,
            RolesNotSeparate(transmitter)
        );

        operator.transmitter = transmitter;
        emit TransmitterChanged(++sequence, msg.sender, transmitter);
    }

    /// @inheritdoc IOperatorRegistry
    function proposeWithdrawal(address withdrawal) external {
        Operator storage operator = _registered(msg.sender);
        require(withdrawal != address(0), ZeroAddress("withdrawal"));
        require(
            withdrawal != msg.sender && ownerOfSigner[withdrawal] != msg.sender && withdrawal != operator.transmitter,
            RolesNotSeparate(withdrawal)
        );

        uint64 activeAt = uint64(block.timestamp) + WITHDRAWAL_DELAY;
        operator.pendingWithdrawal = withdrawal;
        operator.withdrawalActiveAt = activeAt;
        emit WithdrawalProposed(++sequence, msg.sender, withdrawal, activeAt);
    }

    /// @inheritdoc IOperatorRegistry
    function activateWithdrawal(address owner) external {
        Operator storage operator = _operators[owner];
        address withdrawal = operator.pendingWithdrawal;
        require(withdrawal != address(0), NothingPending());
        require(block.timestamp >= operator.withdrawalActiveAt, TooEarly(operator.withdrawalActiveAt));

        operator.withdrawal = withdrawal;
        operator.pendingWithdrawal = address(0);
        operator.withdrawalActiveAt = 0;
        emit WithdrawalActivated(++sequence, owner, withdrawal);
    }

    /* SETS */

    /// @inheritdoc IOperatorRegistry
    function createSet(address admin, address bondToken, uint128 bond, address referee)
        external
        returns (uint64 setId)
    {
        require(admin != address(0), ZeroAddress("admin"));
        setId = ++_setCount;
        OperatorSetState storage set = _sets[setId];
        set.admin = admin;
        set.bondToken = bondToken;
        set.bond = bond;
        set.referee = referee;
        emit SetCreated(++sequence, setId, admin, bondToken, bond, referee);
    }

    /// @inheritdoc IOperatorRegistry
    function proposeSetAdmin(uint64 setId, address admin) external {
        OperatorSetState storage set = _administered(setId);
        set.pendingAdmin = admin;
        emit SetAdminProposed(++sequence, setId, admin);
    }

    /// @inheritdoc IOperatorRegistry
    function acceptSetAdmin(uint64 setId) external {
        OperatorSetState storage set = _sets[setId];
        require(msg.sender == set.pendingAdmin, NotPendingSetAdmin(setId, msg.sender));
        set.admin = msg.sender;
        set.pendingAdmin = address(0);
        emit SetAdminChanged(++sequence, setId, msg.sender);
    }

    /// @inheritdoc IOperatorRegistry
    function join(uint64 setId) external payable nonReentrant {
        OperatorSetState storage set = _known(setId);
        _registered(msg.sender);
        Membership storage member = _members[setId][msg.sender];
        // A bond that is being released, or that was slashed while it was, has to be through before the next one.
        require(!member.joined && member.releaseAt == 0, AlreadyJoined(setId, msg.sender));

        member.joined = true;
        member.sinceEpoch = set.epoch;
        member.bond = set.bond;
        emit Joined(++sequence, setId, msg.sender, set.bond);
        _collect(set.bondToken, set.bond);
    }

    /// @inheritdoc IOperatorRegistry
    function proposeEpoch(uint64 setId, uint8 threshold, address[] calldata operators) external {
        OperatorSetState storage set = _administered(setId);
        require(
            threshold != 0 && threshold <= operators.length && operators.length <= SET_MEMBERS_MAX,
            InvalidThreshold(threshold, operators.length)
        );

        uint64 activeAt = uint64(block.timestamp) + (set.epoch == 0 ? 0 : EPOCH_DELAY);
        set.pendingThreshold = threshold;
        set.pendingOperators = operators;
        set.pendingActiveAt = activeAt;
        emit EpochProposed(++sequence, setId, set.epoch + 1, threshold, operators, activeAt);
    }

    /// @inheritdoc IOperatorRegistry
    function startEpoch(uint64 setId) external {
        OperatorSetState storage set = _known(setId);
        address[] memory operators = set.pendingOperators;
        require(operators.length != 0, NothingPending());
        require(block.timestamp >= set.pendingActiveAt, TooEarly(set.pendingActiveAt));

        set.threshold = set.pendingThreshold;
        set.pendingThreshold = 0;
        set.pendingActiveAt = 0;
        delete set.pendingOperators;
        _startEpoch(setId, set, operators, false);
    }

    /// @inheritdoc IOperatorRegistry
    function refreshEpoch(uint64 setId) external {
        OperatorSetState storage set = _known(setId);
        address[] memory members = set.operators;
        address[] memory staying = new address[](members.length);
        uint256 count = 0;
        bool changed = false;
        for (uint256 i = 0; i < members.length; ++i) {
            Membership storage member = _members[setId][members[i]];
            address signer = _operators[members[i]].signer;
            // Who left or was slashed, and has joined again since, is not yet a member that the admin has named.
            bool stays = member.joined && member.sinceEpoch < set.epoch && signer != address(0);
            if (stays) staying[count++] = members[i];
            if (!stays || signer != set.signers[i]) changed = true;
        }
        require(changed, NothingPending());
        require(count >= set.threshold, InvalidThreshold(set.threshold, count));
        assembly ("memory-safe") {
            mstore(staying, count)
        }
        _startEpoch(setId, set, staying, true);
    }

    /// @inheritdoc IOperatorRegistry
    function startUnbonding(uint64 setId) external {
        Membership storage member = _members[setId][msg.sender];
        require(member.joined, NotJoined(setId, msg.sender));
        OperatorSetState storage set = _sets[setId];
        for (uint256 i = 0; i < set.operators.length; ++i) {
            require(set.operators[i] != msg.sender || isRevoked[set.signers[i]], StillMember(setId, msg.sender));
        }

        uint64 due = uint64(block.timestamp) + UNBONDING_DELAY;
        member.joined = false;
        member.releaseAt = due;
        emit UnbondingStarted(++sequence, setId, msg.sender, due);
    }

    /// @inheritdoc IOperatorRegistry
    function releaseBond(uint64 setId, address owner) external nonReentrant {
        Membership storage member = _members[setId][owner];
        require(member.releaseAt != 0, NothingPending());
        require(block.timestamp >= member.releaseAt, TooEarly(member.releaseAt));

        uint128 amount = member.bond;
        address to = _operators[owner].withdrawal;
        address token = _sets[setId].bondToken;
        delete _members[setId][owner];
        emit BondReleased(++sequence, setId, owner, to, amount);
        if (amount != 0) Payment.send(token, to, amount);
    }

    /// @inheritdoc IOperatorRegistry
    function slash(uint64 setId, address signer, bytes32 requestId, address beneficiary)
        external
        returns (uint128 amount)
    {
        require(msg.sender == escrow, NotEscrow(msg.sender));
        require(!_slashed[requestId], AlreadySlashed(requestId));
        _slashed[requestId] = true;

        address owner = ownerOfSigner[signer];
        Membership storage member = _members[setId][owner];
        OperatorSetState storage set = _sets[setId];
        amount = member.bond;
        uint128 reward = amount / 2;
        member.bond = 0;
        member.joined = false;
        creditOf[beneficiary][set.bondToken] += reward;
        creditOf[BURN_ADDRESS][set.bondToken] += amount - reward;
        emit BondSlashed(++sequence, setId, owner, requestId, signer, amount, beneficiary, reward);

        if (!isRevoked[signer]) _revoke(owner, signer);
        // After a rotation the present epoch counts another key of the same operator, which has no bond there any more.
        for (uint256 i = 0; i < set.operators.length; ++i) {
            if (set.operators[i] == owner && !isRevoked[set.signers[i]]) _revoke(owner, set.signers[i]);
        }
    }

    /// @inheritdoc IOperatorRegistry
    function withdrawFor(address account, address token) external nonReentrant returns (uint256 amount) {
        amount = creditOf[account][token];
        require(amount != 0, NothingToWithdraw(account, token));
        creditOf[account][token] = 0;
        emit Withdrawn(++sequence, account, token, amount);
        Payment.send(token, account, amount);
    }

    /* VIEWS */

    /// @inheritdoc IOperatorRegistry
    function operatorSetHash(uint64 setId) external view returns (bytes32) {
        return _sets[setId].epochHash;
    }

    /// @inheritdoc IOperatorRegistry
    function operatorOf(address owner) external view returns (Operator memory) {
        return _operators[owner];
    }

    /// @inheritdoc IOperatorRegistry
    function epochOf(uint64 setId)
        external
        view
        returns (uint64 epoch, uint8 threshold, address[] memory operators, address[] memory signers)
    {
        OperatorSetState storage set = _sets[setId];
        return (set.epoch, set.threshold, set.operators, set.signers);
    }

    /// @inheritdoc IOperatorRegistry
    function bondOf(uint64 setId, address owner) external view returns (uint128) {
        return _members[setId][owner].bond;
    }

    /// @inheritdoc IOperatorRegistry
    function releaseAt(uint64 setId, address owner) external view returns (uint64) {
        return _members[setId][owner].releaseAt;
    }

    /// @inheritdoc IOperatorRegistry
    function adminOf(uint64 setId) external view returns (address admin, address pendingAdmin) {
        return (_sets[setId].admin, _sets[setId].pendingAdmin);
    }

    /// @inheritdoc IOperatorRegistry
    function refereeOf(uint64 setId) external view returns (address) {
        return _sets[setId].referee;
    }

    /* INTERNAL */

    function _startEpoch(uint64 setId, OperatorSetState storage set, address[] memory operators, bool refreshed)
        private
    {
        address[] memory signers = new address[](operators.length);
        for (uint256 i = 0; i < operators.length; ++i) {
            require(_members[setId][operators[i]].joined, NotJoined(setId, operators[i]));
            signers[i] = _operators[operators[i]].signer;
            require(signers[i] != address(0), ZeroAddress("signer"));
        }
        MemberOrder.sortBySigner(signers, operators);
        // Signers are unique to their operator, so two equal ones mean an operator named twice.
        for (uint256 i = 1; i < signers.length; ++i) {
            require(signers[i] != signers[i - 1], DuplicateMember(operators[i]));
        }

        uint64 epoch = ++set.epoch;
        set.operators = operators;
        set.signers = signers;
        bytes32 hash = MemberOrder.epochHash(setId, epoch, set.threshold, signers);
        set.epochHash = hash;
        emit EpochStarted(++sequence, setId, epoch, set.threshold, operators, signers, hash, refreshed);
    }

    /// @dev Ties a signing key to the caller, for ever.
    function _takeSigner(address signer) private {
        address owner = ownerOfSigner[signer];
        require((owner == address(0) || owner == msg.sender) && !isRevoked[signer], SignerTaken(signer));
        ownerOfSigner[signer] = msg.sender;
    }

    function _revoke(address owner, address signer) private {
        isRevoked[signer] = true;
        Operator storage operator = _operators[owner];
        if (operator.signer == signer) operator.signer = address(0);
        if (operator.pendingSigner == signer) {
            operator.pendingSigner = address(0);
            operator.signerActiveAt = 0;
        }
        emit SignerRevoked(++sequence, owner, signer);
    }

    function _registered(address owner) private view returns (Operator storage operator) {
        operator = _operators[owner];
        require(operator.withdrawal != address(0), NotRegistered(owner));
    }

    function _known(uint64 setId) private view returns (OperatorSetState storage set) {
        set = _sets[setId];
        require(set.admin != address(0), UnknownSet(setId));
    }

    function _administered(uint64 setId) private view returns (OperatorSetState storage set) {
        set = _known(setId);
        require(msg.sender == set.admin, NotSetAdmin(setId, msg.sender));
    }

    function _collect(address token, uint256 amount) private {
        uint256 due = token == address(0) ? amount : 0;
        require(msg.value == due, WrongBond(msg.value, due));
        if (token == address(0) || amount == 0) return;
        uint256 balanceBefore = Payment.balance(token);
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 balanceAfter = Payment.balance(token);
        uint256 moved = balanceAfter > balanceBefore ? balanceAfter - balanceBefore : 0;
        require(moved == amount, TokenMovedOtherAmount(token, moved, amount));
    }
}
